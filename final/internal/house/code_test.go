//go:build linux

package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// source returns the text of a function, method, type, const or var, with its doc comment, by its name:
// "step04-overlay/overlay.FS.Mount". Of a group it returns the whole group.
func source(symbol string) (string, error) {
	folder, base := filepath.Split(symbol)
	pkg, name, _ := strings.Cut(base, ".")
	paths, err := filepath.Glob(filepath.Join(root, folder, pkg, "*.go"))
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return "", err
		}
		for _, decl := range file.Decls {
			if doc, declares := names(decl, name); declares {
				from := decl.Pos()
				if doc != nil {
					from = doc.Pos()
				}
				return string(text[fset.Position(from).Offset:fset.Position(decl.End()).Offset]), nil
			}
		}
	}
	return "", fmt.Errorf("no Go source declares %s", symbol)
}

// names tells whether a declaration declares name ("Mount", "FS.Mount"), and returns its doc comment.
func names(decl ast.Decl, name string) (doc *ast.CommentGroup, declares bool) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		full := d.Name.Name
		if d.Recv != nil {
			receiver := d.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			full = fmt.Sprint(receiver) + "." + full
		}
		return d.Doc, full == name
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				declares = declares || s.Name.Name == name
			case *ast.ValueSpec:
				for _, n := range s.Names {
					declares = declares || n.Name == name
				}
			}
		}
		return d.Doc, declares
	}
	return nil, false
}
