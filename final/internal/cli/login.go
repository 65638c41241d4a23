//go:build linux

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gocker/final/internal/engine"
	"gocker/final/internal/registry"
	"gocker/step01-pull/shared/advice"
)

func loginCommand(*engine.Engine) *cobra.Command {
	var opts registry.Options
	var user, password string
	var fromStdin bool
	cmd := &cobra.Command{
		Use:   "login [flags] [REGISTRY]",
		Short: "Store credentials for a registry",
		Long: `Check a user's name and password with a registry, docker.io if you name none, and store them where docker stores them:
in a credential helper, if ~/.docker/config.json (DOCKER_CONFIG) names one, otherwise in that file.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, key := registryOf(args)
			var err error
			switch {
			case fromStdin && password != "":
				return errors.New("--password and --password-stdin exclude each other")
			case fromStdin && user == "":
				return advice.Add(errors.New("--password-stdin wants a user, too"), "name one: --username NAME")
			case fromStdin:
				raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1<<20))
				if err != nil {
					return err
				}
				password = strings.TrimRight(string(raw), "\r\n")
			case user == "" || password == "":
				if user, password, err = askCredentials(cmd, user, password); err != nil {
					return err
				}
			}
			ctx, stop := interruptible()
			defer stop()
			if err := opts.Login(ctx, host, authn.AuthConfig{Username: user, Password: password}); err != nil {
				return err
			}
			file, err := config.Load("")
			if err == nil {
				err = file.GetCredentialsStore(key).Store(types.AuthConfig{Username: user, Password: password, ServerAddress: key})
			}
			if err != nil {
				return fmt.Errorf("keep the credentials for %s: %w", host, err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Login Succeeded")
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&user, "username", "u", "", "`name` of the user")
	f.StringVarP(&password, "password", "p", "", "the password; other users see it in the list of processes, so --password-stdin is better")
	f.BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	registryFlags(f, &opts)
	return cmd
}

func logoutCommand(*engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "logout [REGISTRY]",
		Short: "Remove the credentials for a registry",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, key := registryOf(args)
			file, err := config.Load("")
			if err == nil {
				err = file.GetCredentialsStore(key).Erase(key)
			}
			if err != nil {
				return fmt.Errorf("forget the credentials for %s: %w", host, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Removing login credentials for %s\n", key)
			return nil
		},
	}
}

// registryOf returns a registry's host, and the name under which docker keeps its credentials.
func registryOf(args []string) (host, key string) {
	host = "docker.io"
	if len(args) > 0 {
		host, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(args[0], "https://"), "http://"), "/")
	}
	if host == "docker.io" || host == name.DefaultRegistry {
		return name.DefaultRegistry, authn.DefaultAuthKey
	}
	return host, host
}

// askCredentials asks on a terminal for what was not given.
func askCredentials(cmd *cobra.Command, user, password string) (string, string, error) {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", "", advice.Add(errors.New("cannot ask for credentials: standard input is no terminal"),
			"give them: --username NAME --password-stdin")
	}
	out := cmd.OutOrStdout()
	if user == "" {
		fmt.Fprint(out, "Username: ")
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			return "", "", err
		}
		user = strings.TrimSpace(line)
	}
	if password == "" {
		fmt.Fprint(out, "Password: ")
		raw, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(out)
		if err != nil {
			return "", "", err
		}
		password = string(raw)
	}
	return user, password, nil
}
