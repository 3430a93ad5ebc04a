package e2e

import (
	"testing"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

func TestMain(m *testing.M) { ledgertest.Main(m) }
