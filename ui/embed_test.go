package ui

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func get(s site, path string, headers ...string) *httptest.ResponseRecorder {
	return call(s, http.MethodGet, path, headers...)
}

func call(s site, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

var built = fstest.MapFS{
	".gitkeep":              {},
	"index.html":            {Data: []byte(`<link nonce="CSP_NONCE">`)},
	"theme.js":              {Data: []byte("theme")},
	"assets/app-1a2b.js":    {Data: []byte("app")},
	"assets/app-1a2b.js.br": {Data: []byte("brotli")},
	"assets/app-1a2b.js.gz": {Data: []byte("gzip")},
	"assets/app-1a2b.css":   {Data: []byte("style")},
}

func TestSite(t *testing.T) {
	t.Parallel()
	s := newSite(built)
	for path, want := range map[string]struct {
		status int
		body   string
		cache  string
	}{
		"/theme.js":           {200, "theme", "no-cache"},
		"/assets/app-1a2b.js": {200, "app", "public, max-age=31536000, immutable"},
		"/assets/gone.js":     {404, "not found\n", ""},
		"/assets/gone":        {404, "not found\n", ""},
		"/api/v1/nothing":     {404, "not found\n", ""},
		"/.gitkeep":           {404, "not found\n", ""},
		"/../embed.go":        {404, "not found\n", ""},
	} {
		got := get(s, path)
		if got.Code != want.status || got.Body.String() != want.body || got.Header().Get("Cache-Control") != want.cache {
			t.Errorf("%s: %d %q %q, want %+v", path, got.Code, got.Body, got.Header().Get("Cache-Control"), want)
		}
		if csp := got.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	s := newSite(built)
	seen := map[string]bool{}
	for _, path := range []string{"/", "/index.html", "/t/acme", "/nowhere"} {
		got := get(s, path, "Accept-Encoding", "br, gzip")
		_, nonce, _ := strings.Cut(got.Header().Get("Content-Security-Policy"), "'nonce-")
		nonce, _, _ = strings.Cut(nonce, "'")
		if want := `<link nonce="` + nonce + `">`; got.Code != 200 || got.Body.String() != want || len(nonce) < 22 {
			t.Errorf("%s: %d %q, want %q", path, got.Code, got.Body, want)
		}
		if got.Header().Get("Cache-Control") != "no-store" || got.Header().Get("Content-Encoding") != "" || seen[nonce] {
			t.Errorf("%s: %v", path, got.Header())
		}
		seen[nonce] = true
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	s := newSite(built)
	for _, path := range []string{"/", "/assets/app-1a2b.js"} {
		if got := call(s, http.MethodHead, path); got.Code != 200 || got.Body.Len() != 0 || got.Header().Get("Content-Length") == "0" {
			t.Errorf("HEAD %s: %d %q %v", path, got.Code, got.Body, got.Header())
		}
		if got := call(s, http.MethodPost, path); got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %d %v", path, got.Code, got.Header())
		}
	}
}

func TestCompressedAndUnchanged(t *testing.T) {
	t.Parallel()
	s := newSite(built)
	const app = "/assets/app-1a2b.js"
	br := get(s, app, "Accept-Encoding", "gzip, br")
	gz := get(s, app, "Accept-Encoding", "br;q=0, gzip")
	if br.Body.String() != "brotli" || br.Header().Get("Content-Encoding") != "br" || gz.Body.String() != "gzip" {
		t.Errorf("br %q, gzip %q", br.Body, gz.Body)
	}
	if br.Header().Get("ETag") == gz.Header().Get("ETag") {
		t.Error("both encodings have one ETag")
	}
	if again := get(s, app, "Accept-Encoding", "gzip, br", "If-None-Match", br.Header().Get("ETag")); again.Code != http.StatusNotModified {
		t.Errorf("unchanged: %d, want 304", again.Code)
	}
}

func TestWithoutABuild(t *testing.T) {
	t.Parallel()
	got := get(newSite(fstest.MapFS{".gitkeep": {}}), "/")
	if got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "UI not built: run make ui") {
		t.Errorf("%d %q", got.Code, got.Body)
	}
}
