package main

import "fmt"

// catch makes what check and must found the error of the function that defers it.
func catch(err *error) {
	if found := recover(); found != nil {
		*err = fmt.Errorf("%v", found)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}
