//go:build linux

package logs

import (
	"errors"
	"fmt"
	"log/syslog"
	"strings"
	"unicode"

	"github.com/coreos/go-systemd/v22/journal"

	"gocker/final/internal/describe"
	"gocker/step01-pull/shared/advice"
)

// AlsoTo sends all lines to the journal or to syslog, too, if the driver says so. As with docker, a line that cannot be sent is
// lost, and if nobody reads, the container waits.
func (l *Log) AlsoTo(driver describe.LogDriver, of describe.LogTag) (err error) {
	tag, err := driver.Tag(of)
	if err != nil {
		return err
	}
	switch driver.Name {
	case "journald":
		err = l.toJournal(tag, of)
	case "syslog":
		err = l.toSyslog(driver.Options, tag)
	}
	if err != nil {
		return fmt.Errorf("--log-driver %s: %w", driver.Name, err)
	}
	return nil
}

// toJournal: see systemd.journal-fields(7), and docker's page on the driver for the fields that begin with CONTAINER.
func (l *Log) toJournal(tag string, of describe.LogTag) error {
	if !journal.Enabled() {
		return advice.Add(errors.New("there is no journal on this machine: nobody listens at /run/systemd/journal/socket"), "leave out --log-driver, and read the log by gocker logs")
	}
	fields := map[string]string{
		"CONTAINER_ID": of.ID, "CONTAINER_ID_FULL": of.FullID, "CONTAINER_NAME": of.Name, "CONTAINER_TAG": tag,
		"SYSLOG_IDENTIFIER": tag, "IMAGE_NAME": of.ImageName,
	}
	for name, value := range l.details {
		if name != "tag" {
			fields[fieldName(name)] = value
		}
	}
	l.also = func(one line) {
		priority := journal.PriInfo
		if one.Stream == "stderr" {
			priority = journal.PriErr
		}
		delete(fields, "CONTAINER_PARTIAL_MESSAGE")
		if one.goesOn() {
			fields["CONTAINER_PARTIAL_MESSAGE"] = "true"
		}
		journal.Send(strings.TrimSuffix(one.Log, "\n"), priority, fields)
	}
	return nil
}

// fieldName has only what the name of a field may have.
func fieldName(name string) string {
	return strings.TrimLeft(strings.Map(func(r rune) rune {
		if r = unicode.ToUpper(r); r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name), "_")
}

func (l *Log) toSyslog(options map[string]string, tag string) error {
	network, address, err := describe.SyslogAddress(options["syslog-address"])
	if err != nil {
		return err
	}
	facility, err := describe.SyslogFacility(options["syslog-facility"])
	if err != nil {
		return err
	}
	to, err := syslog.Dial(network, address, facility|syslog.LOG_INFO, tag)
	if err != nil {
		return advice.Add(err, "start syslog, or say where it listens: --log-opt syslog-address=udp://HOST:514")
	}
	l.also = func(one line) {
		send := to.Info
		if one.Stream == "stderr" {
			send = to.Err
		}
		send(strings.TrimSuffix(one.Log, "\n"))
	}
	return nil
}
