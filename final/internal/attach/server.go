//go:build linux

package attach

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Server is where people connect with a container. A person whose connection is too slow is left behind: the container does not wait for
// any client, except the one that it was started for.
type Server struct {
	Stopped chan struct{} // closed when somebody does not want it to be started again

	listener *net.UnixListener
	stopOnce sync.Once

	sending sync.WaitGroup
	mu      sync.Mutex
	clients map[*client]bool
	input   *os.File // the container's standard input or its terminal; may be nil
	once    bool     // input ends with that of the first client
	window  *unix.Winsize
}

// Listen makes the socket in the container's folder.
func Listen(folder string) (s *Server, err error) {
	s = &Server{Stopped: make(chan struct{}), clients: map[*client]bool{}}
	err = Address(folder, Name, func(at *net.UnixAddr) error {
		os.Remove(at.Name) // of a gocker that died
		s.listener, err = net.ListenUnix("unixpacket", at)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.listener.SetUnlinkOnClose(false) // that name was good for a moment; it goes with the folder
	go func() {
		for {
			conn, err := s.listener.AcceptUnix()
			if err != nil {
				return // closed
			}
			s.add(conn, false)
		}
	}()
	return s, nil
}

// Serve adds the other end of a Pair: the client that the container is started for.
func (s *Server) Serve(end *os.File) error {
	defer end.Close()
	conn, err := net.FileConn(end)
	if err != nil {
		return err
	}
	s.add(conn.(*net.UnixConn), true)
	return nil
}

// Input says where what people type goes. If once is set, it is closed when one of them has come to the end of input.
func (s *Server) Input(to *os.File, once bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.input, s.once = to, once
	s.resize()
}

// resize gives the terminal its size. The caller holds mu.
func (s *Server) resize() {
	if s.input != nil && s.window != nil {
		unix.IoctlSetWinsize(int(s.input.Fd()), unix.TIOCSWINSZ, s.window) // a pipe has none
	}
}

// Stdout and Stderr are writers that write to all clients. They do not fail.
func (s *Server) Stdout() io.Writer { return output{s, stdout} }
func (s *Server) Stderr() io.Writer { return output{s, stderr} }

type output struct {
	server *Server
	kind   byte
}

func (o output) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxPacket-1)
		o.server.all(o.kind, rest[:n])
		rest = rest[n:]
	}
	return len(p), nil
}

// all sends a packet to all.
func (s *Server) all(kind byte, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.clients) == 0 {
		return
	}
	packet := append([]byte{kind}, payload...)
	for c := range s.clients {
		if c.first {
			s.mu.Unlock() // it may take its time, in which others come and go
			c.send(packet)
			s.mu.Lock()
			continue
		}
		select {
		case c.queue <- packet:
		default:
			c.conn.Close()
			delete(s.clients, c)
		}
	}
}

// Ended tells all clients the status. With that their connections end; the slow have a moment to take what
// the container wrote last. See Close.
func (s *Server) Ended(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.input = nil
	for c := range s.clients {
		delete(s.clients, c)
		if !c.first {
			time.AfterFunc(endTime, func() { c.conn.Close() })
		}
		go func() {
			c.send(strconv.AppendInt([]byte{ended}, int64(status), 10))
			c.send(nil)
		}()
	}
}

// endTime is how long somebody else than the first has for what the container wrote last.
const endTime = 5 * time.Second

// Close ends the server, when all have got what they should.
func (s *Server) Close() {
	s.listener.Close()
	s.sending.Wait()
}

// A client is one connection. Its packets wait in a queue; nil is the end.
type client struct {
	conn  *net.UnixConn
	first bool // the container was started for it
	queue chan []byte
	left  chan struct{} // closed when it has closed its end
	gone  chan struct{} // closed when nothing more is sent to it
}

// queueLength is how many packets somebody may be behind.
const queueLength = 64

func (s *Server) add(conn *net.UnixConn, first bool) {
	c := &client{conn: conn, first: first, queue: make(chan []byte, queueLength), left: make(chan struct{}), gone: make(chan struct{})}
	s.mu.Lock()
	s.clients[c] = true
	s.mu.Unlock()
	s.sending.Go(func() {
		defer close(c.gone)
		defer conn.Close()
		for {
			select {
			case packet := <-c.queue:
				if packet == nil {
					return
				}
				if _, err := conn.Write(packet); err != nil {
					return
				}
			case <-c.left:
				return
			}
		}
	})
	go s.listen(c)
}

// send waits until the packet is in the queue, or nobody waits for it any more.
func (c *client) send(packet []byte) {
	select {
	case c.queue <- packet:
	case <-c.gone:
	}
}

// listen does what a client says.
func (s *Server) listen(c *client) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.clients, c)
		close(c.left)
	}()
	buffer := make([]byte, maxPacket)
	for {
		n, err := c.conn.Read(buffer)
		if n == 0 || err != nil {
			return
		}
		packet := buffer[1:n]
		s.mu.Lock()
		to := s.input
		switch buffer[0] {
		case size:
			if len(packet) == 4 {
				s.window = &unix.Winsize{Row: binary.LittleEndian.Uint16(packet), Col: binary.LittleEndian.Uint16(packet[2:])}
				s.resize()
			}
		case inputEnd:
			if s.once && to != nil {
				s.input = nil
				to.Close()
			}
		case stop:
			s.stopOnce.Do(func() { close(s.Stopped) })
		}
		s.mu.Unlock()
		if buffer[0] == input && to != nil {
			to.Write(packet) // a container that reads no more is no error
		}
	}
}
