package projections_test

import (
	"os"
	"testing"

	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

func TestMain(m *testing.M) {
	rebuildIfAsked()
	os.Exit(projectionstest.Run(m))
}
