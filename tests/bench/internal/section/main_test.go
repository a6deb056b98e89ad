package section

import (
	"testing"

	"github.com/tandemcache/tandem/tests/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
