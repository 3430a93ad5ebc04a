package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestPostgres is the first major version that the read models run on.
const oldestPostgres = 15

// debianBinaries is where Debian and Ubuntu keep every installed major version.
const debianBinaries = "/usr/lib/postgresql/*/bin"

// binaries is a folder with initdb and postgres.
type binaries struct {
	dir   string
	major int
}

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// findBinaries returns the Postgres to run: bin and no other when it is set, else the newest folder that matches glob,
// else the one on the search path. A cluster of major version cluster (0 when there is none) is only opened by that
// version, and gets it when it is installed, newest or not; one older than oldestPostgres is not opened at all.
func findBinaries(ctx context.Context, bin, glob, searchPath string, cluster int, user account) (binaries, error) {
	var found []binaries
	var broken []error
	search := func(folders []string) {
		from := len(found)
		for _, dir := range folders {
			if !executable(dir, "postgres") || !executable(dir, "initdb") {
				continue
			}
			major, err := majorVersion(ctx, filepath.Join(dir, "postgres"), user)
			if err != nil {
				broken = append(broken, err)
				continue
			}
			found = append(found, binaries{dir, major})
		}
		slices.SortStableFunc(found[from:], func(a, b binaries) int { return cmp.Compare(b.major, a.major) })
	}
	where := "PG_BIN=" + bin
	if bin != "" {
		search([]string{bin})
	} else {
		where = glob + " and PATH"
		installed, err := filepath.Glob(glob)
		if err != nil {
			return binaries{}, err
		}
		search(installed)
		for _, dir := range filepath.SplitList(searchPath) {
			search([]string{dir}) // in the order of the path, whatever the versions
		}
	}
	if len(found) == 0 {
		return binaries{}, errors.Join(append(broken, fmt.Errorf("no Postgres in %s: install it with `apt-get install postgresql`, or name the folder that holds initdb and postgres in PG_BIN", where))...)
	}
	if cluster != 0 {
		for _, b := range found {
			if b.major == cluster && b.major >= oldestPostgres {
				return b, nil
			}
		}
		return binaries{}, &otherVersionError{cluster: cluster, found: found[0]}
	}
	for _, b := range found {
		if b.major >= oldestPostgres {
			return b, nil
		}
	}
	return binaries{}, fmt.Errorf("Postgres %d in %s is too old, %d or newer is needed: install it with `apt-get install postgresql`, or name its folder in PG_BIN", found[0].major, found[0].dir, oldestPostgres)
}

// otherVersionError says that no installed Postgres can open the cluster. StartPostgres adds where the cluster is.
type otherVersionError struct {
	cluster int
	found   binaries
}

func (e *otherVersionError) Error() string {
	return fmt.Sprintf("made by Postgres %d, but installed is Postgres %d (%s)", e.cluster, e.found.major, e.found.dir)
}

func executable(dir, name string) bool {
	if dir == "" {
		return false
	}
	info, err := os.Stat(filepath.Join(dir, name))
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// majorVersion asks the binary, as the user that is going to run it.
func majorVersion(ctx context.Context, postgres string, user account) (int, error) {
	cmd := exec.CommandContext(ctx, postgres, "--version")
	cmd.Env, cmd.Dir, cmd.SysProcAttr = environment(), "/", user.attributes()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("run %s as %s: %w %s", postgres, user, err, strings.TrimSpace(string(out)))
	}
	match := versionText.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("%s --version answered %q, which names no Postgres version", postgres, out)
	}
	return strconv.Atoi(string(match[1]))
}
