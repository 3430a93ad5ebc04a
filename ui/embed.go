package ui

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed all:dist
var dist embed.FS

// Handler serves the page: its files, and for every other path without an extension the page itself, which shows what
// belongs there. It answers GET and HEAD.
func Handler() http.Handler {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return newSite(files)
}

// contentSecurityPolicy allows nothing but what the ledger itself serves, and styles that carry the nonce of the page.
const contentSecurityPolicy = "default-src 'self'; script-src 'self'; style-src 'self' 'nonce-%s'; img-src 'self' data:; connect-src 'self'; " +
	"object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"

const (
	indexFile = "index.html"
	// noncePlaceholder stands in the built page where the nonce goes. Source: vite.config.ts.
	noncePlaceholder = "CSP_NONCE"
)

// site holds every file in memory, by path.
type site map[string]*file

type file struct {
	contentType, cacheControl, etag string
	plain, br, gz                   []byte
}

func newSite(files fs.FS) site {
	s := site{}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Base(name) == ".gitkeep" {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		original := strings.TrimSuffix(strings.TrimSuffix(name, ".br"), ".gz")
		if original == indexFile && name != indexFile {
			return nil // no two answers with it are the same
		}
		f := s[original]
		if f == nil {
			f = &file{contentType: contentTypeOf(original), cacheControl: "no-cache"}
			s[original] = f
		}
		if strings.HasPrefix(original, "assets/") {
			f.cacheControl = "public, max-age=31536000, immutable" // their names change with their content
		}
		switch name {
		case original + ".br":
			f.br = content
		case original + ".gz":
			f.gz = content
		default:
			f.plain = content
			sum := sha256.Sum256(content)
			f.etag = `"` + hex.EncodeToString(sum[:12]) + `"`
		}
		return nil
	})
	if err != nil {
		panic(err) // files in memory can be read
	}
	return s
}

func contentTypeOf(name string) string {
	if ct := mime.TypeByExtension(path.Ext(name)); ct != "" {
		return ct
	}
	return "application/octet-stream"
}

// ServeHTTP implements http.Handler.
func (s site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	nonce := rand.Text()
	h := w.Header()
	h.Set("Content-Security-Policy", fmt.Sprintf(contentSecurityPolicy, nonce))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if s.isPage(name) {
		s.servePage(w, r, nonce)
		return
	}
	f := s[name]
	if f == nil || f.plain == nil {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", f.cacheControl)
	h.Set("Vary", "Accept-Encoding")
	body, etag := f.plain, f.etag
	accepted := r.Header.Get("Accept-Encoding")
	switch {
	case f.br != nil && accepts(accepted, "br"):
		h.Set("Content-Encoding", "br")
		body, etag = f.br, f.etag[:len(f.etag)-1]+`-br"`
	case f.gz != nil && accepts(accepted, "gzip"):
		h.Set("Content-Encoding", "gzip")
		body, etag = f.gz, f.etag[:len(f.etag)-1]+`-gz"`
	}
	h.Set("ETag", etag)
	// ServeContent answers If-None-Match and HEAD.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// isPage tells whether the page itself belongs to name: it shows what is there, or that nothing is.
func (s site) isPage(name string) bool {
	return name == indexFile || s[name] == nil && path.Ext(name) == "" && !strings.HasPrefix(name, "api/") && !strings.HasPrefix(name, "assets/")
}

func (s site) servePage(w http.ResponseWriter, r *http.Request, nonce string) {
	index := s[indexFile]
	if index == nil {
		http.Error(w, "UI not built: run make ui", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", index.contentType)
	w.Header().Set("Cache-Control", "no-store")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bytes.ReplaceAll(index.plain, []byte(noncePlaceholder), []byte(nonce))))
}

// accepts tells whether a list such as "gzip, br;q=0" allows encoding.
func accepts(list, encoding string) bool {
	for item := range strings.SplitSeq(list, ",") {
		name, parameters, _ := strings.Cut(item, ";")
		if strings.EqualFold(strings.TrimSpace(name), encoding) {
			q, found := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
			return !found || strings.Trim(q, "0.") != ""
		}
	}
	return false
}
