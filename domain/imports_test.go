package domain_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The domain is pure: with I/O, a clock or chance in it, a replay could give another state than the first time.
func TestDomainImportsNothingImpure(t *testing.T) {
	t.Parallel()
	pure := []string{"github.com/coditect-ai/license-ledger/domain/index", "cmp", "encoding/binary", "errors", "fmt", "maps", "math", "slices", "sort", "strconv", "strings", "time", "unicode/utf8"}
	readsClock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Sleep", "Local"}
	inspectDomain(t, func(file string, node ast.Node) {
		switch n := node.(type) {
		case *ast.ImportSpec:
			if path, _ := strconv.Unquote(n.Path.Value); !slices.Contains(pure, path) {
				t.Errorf("%s imports %s; only %v are known to be pure", file, path, pure)
			}
		case *ast.SelectorExpr:
			if of, ok := n.X.(*ast.Ident); ok && of.Name == "time" && slices.Contains(readsClock, n.Sel.Name) {
				t.Errorf("%s uses time.%s", file, n.Sel.Name)
			}
		}
	})
}

// inspectDomain visits the source of the package without its tests.
func inspectDomain(t *testing.T, visit func(file string, node ast.Node)) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source found: %v", err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			visit(name, node)
			return true
		})
	}
}

// declared returns, of each type that has the method, its event type (EventType) or its name (any other method).
func declared(t *testing.T, method string) []string {
	t.Helper()
	var found []string
	inspectDomain(t, func(_ string, node ast.Node) {
		f, ok := node.(*ast.FuncDecl)
		if !ok || f.Recv == nil || f.Name.Name != method {
			return
		}
		if method != "EventType" {
			found = append(found, f.Recv.List[0].Type.(*ast.Ident).Name)
			return
		}
		found = append(found, literal(f.Body.List[0].(*ast.ReturnStmt).Results[0]))
	})
	if len(found) < 10 {
		t.Fatalf("only %d types with %s found", len(found), method)
	}
	return found
}

// declaredCodes returns the codes of rejections.
func declaredCodes(t *testing.T) []string {
	t.Helper()
	var codes []string
	inspectDomain(t, func(_ string, node ast.Node) {
		if c, ok := node.(*ast.ValueSpec); ok {
			if of, ok := c.Type.(*ast.Ident); ok && of.Name == "Code" {
				codes = append(codes, literal(c.Values[0]))
			}
		}
	})
	if len(codes) < 10 {
		t.Fatalf("only %d codes found", len(codes))
	}
	return codes
}

func literal(e ast.Expr) string {
	text, _ := strconv.Unquote(e.(*ast.BasicLit).Value)
	return text
}
