//go:build linux

// Package attach connects people with a container that somebody else runs: by a socket in the container's folder, and
// by what goes through it.
//
// One end is with the gocker that runs the container, a Server. It gives all that the container writes to all that are
// connected, and what they type to the container. The other ends are each a Conn. What goes through is packets, a byte
// that says what it is and the rest:
//
//	to the container   input      bytes of standard input
//	                   inputEnd   there will be no more
//	                   size       of the terminal, two numbers of two bytes: rows and columns
//	                   stop       it is to end, and not to be started again
//	from it            stdout     bytes that it wrote
//	                   stderr     the same
//	                   ended      with this status, in decimal digits
//
// See SOCK_SEQPACKET in unix(7).
package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Name is the socket's, in the container's folder.
const Name = "attach"

const (
	input    = 'i'
	inputEnd = 'e'
	size     = 'w'
	stop     = 's'
	stdout   = '1'
	stderr   = '2'
	ended    = 'x'
)

// maxPacket is the largest packet, in bytes.
const maxPacket = 32<<10 + 1

// Address calls do with the address of a socket of packets, a file in a folder. A folder's name may be longer than the 107 bytes
// of an address, so it is named by a descriptor.
func Address(folder, name string, do func(*net.UnixAddr) error) error {
	dir, err := os.OpenFile(folder, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(&net.UnixAddr{Net: "unixpacket", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)})
}

// A Conn is a connection with a container.
type Conn struct{ conn *net.UnixConn }

// Dial connects with the container of a folder.
func Dial(folder string) (c Conn, err error) {
	err = Address(folder, Name, func(at *net.UnixAddr) error {
		c.conn, err = net.DialUnix("unixpacket", nil, at)
		return err
	})
	return c, err
}

// Pair makes a connection whose other end, a file, is for the Server of another process: see Server.Serve.
func Pair() (Conn, *os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Conn{}, nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), Name), os.NewFile(uintptr(pair[1]), Name)
	defer ours.Close()
	conn, err := net.FileConn(ours) // of a copy
	if err != nil {
		theirs.Close()
		return Conn{}, nil, err
	}
	return Conn{conn.(*net.UnixConn)}, theirs, nil
}

// Close ends the connection, not the container.
func (c Conn) Close() error { return c.conn.Close() }

// Stop asks for the container not to be started again when it ends.
func (c Conn) Stop() error { return send(c.conn, stop, nil) }

// Resize tells the size of the terminal.
func (c Conn) Resize(rows, columns uint16) error {
	return send(c.conn, size, binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, rows), columns))
}

// Type sends standard input up to its end.
func (c Conn) Type(in io.Reader) error {
	buffer := make([]byte, maxPacket)
	for {
		n, err := in.Read(buffer[1:])
		if n > 0 {
			buffer[0] = input
			if _, err := c.conn.Write(buffer[:1+n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return send(c.conn, inputEnd, nil)
		}
		if err != nil {
			return err
		}
	}
}

// ErrLost says that a connection ended before the container.
var ErrLost = errors.New("the connection to the container is lost")

// Show writes what the container writes, until its end, and returns its status.
func (c Conn) Show(out, err io.Writer) (status int, _ error) {
	buffer := make([]byte, maxPacket)
	for {
		n, readErr := c.conn.Read(buffer)
		if n == 0 || readErr != nil {
			return -1, ErrLost
		}
		packet := buffer[1:n]
		var writeErr error
		switch buffer[0] {
		case stdout:
			_, writeErr = out.Write(packet)
		case stderr:
			_, writeErr = err.Write(packet)
		case ended:
			return strconv.Atoi(string(packet))
		}
		if writeErr != nil {
			return -1, writeErr
		}
	}
}

func send(conn *net.UnixConn, kind byte, payload []byte) error {
	_, err := conn.Write(append([]byte{kind}, payload...))
	return err
}
