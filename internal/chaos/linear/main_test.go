package linear

import (
	"net/http"
	"testing"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

func TestMain(m *testing.M) {
	// A connection per client is kept; the default of two would open a new one for most requests.
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	ledgertest.Main(m)
}
