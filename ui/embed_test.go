package ui

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func get(s site, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

var built = fstest.MapFS{
	".gitkeep":            {},
	"index.html":          {Data: []byte("<html>page</html>")},
	"index.html.br":       {Data: []byte("brotli")},
	"index.html.gz":       {Data: []byte("gzip")},
	"theme.js":            {Data: []byte("theme")},
	"assets/app-1a2b.js":  {Data: []byte("app")},
	"assets/app-1a2b.css": {Data: []byte("style")},
}

func TestSite(t *testing.T) {
	t.Parallel()
	s := newSite(built)
	for path, want := range map[string]struct {
		status int
		body   string
		cache  string
	}{
		"/":                   {200, "<html>page</html>", "no-cache"},
		"/t/acme":             {200, "<html>page</html>", "no-cache"},
		"/theme.js":           {200, "theme", "no-cache"},
		"/assets/app-1a2b.js": {200, "app", "public, max-age=31536000, immutable"},
		"/assets/gone.js":     {404, "not found\n", ""},
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

func TestCompressedAndUnchanged(t *testing.T) {
	t.Parallel()
	s := newSite(built)
	br := get(s, "/", "Accept-Encoding", "gzip, br")
	gz := get(s, "/", "Accept-Encoding", "gzip")
	if br.Body.String() != "brotli" || br.Header().Get("Content-Encoding") != "br" || gz.Body.String() != "gzip" {
		t.Errorf("br %q, gzip %q", br.Body, gz.Body)
	}
	if br.Header().Get("ETag") == gz.Header().Get("ETag") {
		t.Error("both encodings have one ETag")
	}
	if again := get(s, "/", "Accept-Encoding", "gzip, br", "If-None-Match", br.Header().Get("ETag")); again.Code != http.StatusNotModified {
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
