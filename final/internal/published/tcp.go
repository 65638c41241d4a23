//go:build linux

package published

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A poller waits for many sockets at once. It is itself a file that Go's runtime waits for, and so needs no thread.
type poller struct {
	file   *os.File // an epoll, see epoll(7)
	raw    syscall.RawConn
	events [64]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // os.NewFile sees by it that the runtime may wait for it
		return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(fd))
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll")}
	p.raw, err = p.file.SyscallConn()
	return p, err
}

func (p *poller) add(fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	var err error
	if e := p.raw.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, fd, &event) }); e != nil {
		return e
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// wait returns some of the sockets that have something to read. It fails when the file is closed, and at its deadline.
func (p *poller) wait() (ready []unix.EpollEvent, err error) {
	e := p.raw.Read(func(epoll uintptr) bool {
		var n int
		n, err = unix.EpollWait(int(epoll), p.events[:], 0)
		ready = p.events[:max(n, 0)]
		return n > 0 || err != nil && err != unix.EINTR
	})
	if e != nil {
		return nil, e
	}
	return ready, os.NewSyscallError("epoll_wait", err)
}

// An acceptor leads connections to containers.
type acceptor struct {
	*poller
	ctx   context.Context          // its end is the end of all connections
	to    map[int32]netip.AddrPort // by the socket in the host
	slots chan struct{}            // has one for each connection that is open
	open  sync.WaitGroup

	within func(func() error) error // see Listeners
}

// here is within for containers that are reached from here.
func here(do func() error) error { return do() }

func newAcceptor(ctx context.Context, connections int) (*acceptor, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &acceptor{poller: p, ctx: ctx, to: map[int32]netip.AddrPort{}, slots: make(chan struct{}, connections), within: here}, nil
}

func (a *acceptor) run() {
	defer a.open.Wait()
	for {
		ready, err := a.wait()
		if err != nil {
			return
		}
		for _, event := range ready {
			select {
			case a.slots <- struct{}{}:
			case <-a.ctx.Done():
				return
			}
			fd, _, err := unix.Accept4(int(event.Fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				<-a.slots
				if err != unix.EAGAIN && err != unix.ECONNABORTED { // that is, if the client has gone again
					time.Sleep(20 * time.Millisecond) // no file or no memory is left: those that end give some back
				}
				continue
			}
			a.open.Go(func() {
				a.connect(fd, a.to[event.Fd])
				<-a.slots
			})
		}
	}
}

// connect passes on what a client and a container send each other, until both have said all.
func (a *acceptor) connect(fd int, to netip.AddrPort) {
	file := os.NewFile(uintptr(fd), "client")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return
	}
	client := conn.(*net.TCPConn)
	defer client.Close()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	err = a.within(func() (err error) {
		conn, err = dialer.DialContext(a.ctx, "tcp", to.String())
		return err
	})
	if err != nil {
		client.SetLinger(0) // a reset: the container itself would have refused the connection
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	defer context.AfterFunc(a.ctx, func() {
		client.Close()
		server.Close()
	})()
	var other sync.WaitGroup
	other.Go(func() { pass(server, client) })
	pass(client, server)
	other.Wait()
}

// pass is one direction. Its end is passed on, too: the other direction may have more to say.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err == nil { // by splice(2)
		to.CloseWrite()
		return
	}
	for _, c := range []*net.TCPConn{to, from} { // one side broke off, and the other is to see that
		c.SetLinger(0)
		c.Close()
	}
}
