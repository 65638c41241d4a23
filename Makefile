# Builds and installs gocker as a program, with its manual pages and its completion for shells:
#
#	make                    everything, into build/
#	sudo make install       what is in build/, below /usr/local (or PREFIX=/usr, with DESTDIR=/a/root in front of it)
#	sudo make uninstall     removes that again
#	make packages           .deb and .tar.gz for amd64 and arm64, into dist/: see .ci/package
#	make bundle             all that machines without a network need, into dist/: see .ci/bundle
#
# The steps and the tests need none of this.

PREFIX = /usr/local
ZSHDIR = $(PREFIX)/share/zsh/site-functions
BUILD = build

# What "gocker version" says. Without a tag it is a version before all others.
VERSION := $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-\([0-9]*\)-g/+\1.g/')
COMMIT := $(shell git rev-parse --short=7 HEAD 2>/dev/null)
DATE := $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)
ifeq ($(VERSION),)
VERSION := 0.0~git$(shell echo "$(DATE)" | cut -c 1-10 | tr -d -).$(COMMIT)
endif

name = gocker/final/internal/cli
all:
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -o $(BUILD)/gocker \
		-ldflags '-s -w -X $(name).version=$(VERSION) -X $(name).commit=$(COMMIT) -X $(name).date=$(DATE)' ./final
	GOARCH= go run ./final/internal/manual -version '$(VERSION)' -date "$$(echo '$(DATE)' | cut -c 1-10)" $(BUILD)/man1
	for shell in bash zsh fish; do GOARCH= go run ./final completion $$shell >$(BUILD)/completion.$$shell || exit; done
	.ci/licences >$(BUILD)/copyright

# As root there may be no go, and the files of another user are none for git: so this only copies.
share = $(DESTDIR)$(PREFIX)/share
install:
	test -x $(BUILD)/gocker || { echo 'type make first'; exit 1; }
	install -D $(BUILD)/gocker $(DESTDIR)$(PREFIX)/bin/gocker
	install -d $(share)/man/man1
	cp -P $(BUILD)/man1/*.1 $(share)/man/man1
	install -D -m 644 $(BUILD)/completion.bash $(share)/bash-completion/completions/gocker
	install -D -m 644 $(BUILD)/completion.zsh $(DESTDIR)$(ZSHDIR)/_gocker
	install -D -m 644 $(BUILD)/completion.fish $(share)/fish/vendor_completions.d/gocker.fish
	install -D -m 644 $(BUILD)/copyright $(share)/doc/gocker/copyright

uninstall:
	rm -rf $(DESTDIR)$(PREFIX)/bin/gocker $(share)/man/man1/gocker.1 $(share)/man/man1/gocker-*.1 $(share)/bash-completion/completions/gocker \
		$(DESTDIR)$(ZSHDIR)/_gocker $(share)/fish/vendor_completions.d/gocker.fish $(share)/doc/gocker

packages:
	.ci/package dist

bundle:
	.ci/bundle dist

.PHONY: all install uninstall packages bundle
