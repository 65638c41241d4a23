//go:build linux

package tiny

import "unsafe"

// A Call is one system call of Child. An argument is an int, a uintptr, a string, or a list of strings as execve(2) takes them.
type Call struct {
	Number  uintptr
	Args    []any // at most 5
	Special int   // see below
}

// Calls that are special: of all others the result counts only if it is an error.
const (
	OrNext = 1 // execve(2): if there is no file that it may execute, the next call is tried
	Begets = 2 // clone(2): the parent reports the child's number, and ends; the child makes the next calls
	Waits  = 3 // read(2), of a byte: at the end of the file the process ends
	Tries  = 4 // its error does not count
)

// Child is a program that makes calls; the last one executes another program. It reports through socket as the child of a
// birth.List does, where the first of its calls has the number first.
func Child(socket, first int, calls []Call) []byte {
	const at = 0x1000 // the code finds all this here, counted from the beginning of the file
	words := []uint64{uint64(socket)}
	var text []byte
	here := func() uint64 { return address + at + 8*uint64(1+8*len(calls)) + uint64(len(text)) }
	point := func(s string) uint64 {
		to := here()
		text = append(append(text, s...), 0)
		return to
	}
	lists := map[*string]uint64{} // each once: several calls of execve(2) have the same arguments
	pointList := func(list []string) uint64 {
		to, ok := lists[unsafe.SliceData(list)]
		if !ok {
			var pointers []uint64
			for _, s := range list {
				pointers = append(pointers, point(s))
			}
			to = here()
			text = append(text, raw(append(pointers, 0))...)
			lists[unsafe.SliceData(list)] = to
		}
		return to
	}
	for i, c := range calls {
		entry := [8]uint64{0: uint64(c.Number), 6: uint64(first + i), 7: uint64(c.Special)}
		for j, arg := range c.Args {
			switch arg := arg.(type) {
			case int:
				entry[1+j] = uint64(arg)
			case uintptr:
				entry[1+j] = uint64(arg)
			case string:
				entry[1+j] = point(arg)
			case []string:
				entry[1+j] = pointList(arg)
			}
		}
		words = append(words, entry[:]...)
	}
	all := make([]byte, at-headers)
	copy(all, code(childBegin, childEnd))
	return file(append(append(all, raw(words)...), text...))
}
