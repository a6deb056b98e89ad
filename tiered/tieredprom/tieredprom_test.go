package tieredprom_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/tieredprom"
	"github.com/tandemcache/tandem/tiered/tieredtest"
)

func TestMain(m *testing.M) { leak.Main(m) }

// fixed is a cache that says what a test wants.
type fixed struct {
	name   string
	stats  tiered.Stats
	health tiered.Health
}

func (f fixed) Name() string          { return f.name }
func (f fixed) Stats() tiered.Stats   { return f.stats }
func (f fixed) Health() tiered.Health { return f.health }

func collect(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(c))
	families, err := r.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			values[f.GetName()+labels(m)] = value(m)
		}
	}
	return values
}

func labels(m *dto.Metric) string {
	var out []string
	for _, l := range m.Label {
		out = append(out, l.GetName()+"="+l.GetValue())
	}
	return "{" + strings.Join(out, ",") + "}"
}

func value(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	return float64(m.Histogram.GetSampleCount())
}

func observed() *tieredprom.Collector {
	c := tieredprom.New()
	c.Add(fixed{name: "users"})
	c.LoadEnded(context.Background(), tiered.LoadEnd{Cache: "users", Took: time.Millisecond})
	c.RemoteCalled(context.Background(), tiered.RemoteCall{Cache: "users", Op: "get", Took: time.Millisecond})
	c.InvalidationReceived(tiered.Invalidation{Cache: "users", LagKnown: true, Lag: time.Millisecond})
	return c
}

func TestNamesFollowTheConventions(t *testing.T) {
	t.Parallel()
	problems, err := testutil.CollectAndLint(observed())
	require.NoError(t, err)
	require.Empty(t, problems)
}

// A registry refuses a collector that collects what it has not described, but only when it is asked for metrics.
func TestWhatIsCollectedIsDescribed(t *testing.T) {
	t.Parallel()
	c := observed()
	described := map[string]bool{}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		c.Describe(descs)
	}()
	for d := range descs {
		described[d.String()] = true
	}
	metrics := make(chan prometheus.Metric)
	go func() {
		defer close(metrics)
		c.Collect(metrics)
	}()
	collected := 0
	for m := range metrics {
		require.True(t, described[m.Desc().String()], m.Desc())
		collected++
	}
	require.Positive(t, collected)
}

// A number that is added to Stats or Health and forgotten here fails this.
func TestEveryNumberIsAMetric(t *testing.T) {
	t.Parallel()
	c := tieredprom.New()
	c.Add(fixed{name: "users"})
	base := collect(t, c)
	check := func(field string, changed fixed) {
		c := tieredprom.New()
		c.Add(changed)
		different := 0
		for name, v := range collect(t, c) {
			if base[name] != v {
				different++
			}
		}
		require.Equal(t, 1, different, "metrics that show %s", field)
	}
	for i := range reflect.TypeFor[tiered.Stats]().NumField() {
		f := fixed{name: "users"}
		check("Stats."+set(reflect.ValueOf(&f.stats).Elem(), i), f)
	}
	for i := range reflect.TypeFor[tiered.Health]().NumField() {
		f := fixed{name: "users"}
		check("Health."+set(reflect.ValueOf(&f.health).Elem(), i), f)
	}
}

// set makes a field something else than zero, and returns its name.
func set(v reflect.Value, i int) string {
	switch f := v.Field(i); f.Kind() {
	case reflect.Bool:
		f.SetBool(true)
	case reflect.Uint64:
		f.SetUint(7)
	case reflect.Interface:
		f.Set(reflect.ValueOf(errors.New("away")))
	default:
		f.SetInt(7)
	}
	return v.Type().Field(i).Name
}

func TestSeveralCaches(t *testing.T) {
	t.Parallel()
	c := tieredprom.New()
	c.Add(fixed{name: "users", stats: tiered.Stats{LocalHits: 1}}, fixed{name: "orders", stats: tiered.Stats{LocalHits: 2}})
	c.Add(fixed{name: "users", stats: tiered.Stats{LocalHits: 3}})
	values := collect(t, c)
	require.InDelta(t, 3, values["tandem_hits_total{cache=users,tier=local}"], 0)
	require.InDelta(t, 2, values["tandem_hits_total{cache=orders,tier=local}"], 0)
	c.Remove("users")
	for name := range collect(t, c) {
		require.NotContains(t, name, "users")
	}
}

func TestACache(t *testing.T) {
	t.Parallel()
	c := tieredprom.New()
	ctx := context.Background()
	fleet := tieredtest.NewFleet(t, 2, tiered.Options[string]{
		Observer: c, RedisTimeout: 10 * time.Second,
		Load: func(_ context.Context, key string) (string, error) {
			switch key {
			case "missing":
				return "", tiered.ErrNotFound
			case "bad":
				return "", errors.New("no")
			}
			return key, nil
		},
	})
	a, b := fleet.Cache(0), fleet.Cache(1)
	c.Add(a)
	for _, key := range []string{"k", "k", "missing", "bad"} {
		_, _ = a.Get(ctx, key)
	}
	require.NoError(t, b.Invalidate(ctx, "k"))
	fleet.Settle()
	const cache = "{cache=tieredtest"
	require.Eventually(t, func() bool {
		values := collect(t, c)
		return values["tandem_load_duration_seconds"+cache+",result=ok}"] == 1 &&
			values["tandem_load_duration_seconds"+cache+",result=not_found}"] == 1 &&
			values["tandem_load_duration_seconds"+cache+",result=error}"] == 1 &&
			values["tandem_redis_call_duration_seconds"+cache+",operation=get,result=ok}"] == 3 &&
			values["tandem_redis_call_duration_seconds"+cache+",operation=invalidate,result=ok}"] == 1 &&
			values["tandem_invalidation_lag_seconds"+cache+"}"] == 1 && // b hears itself, too
			values["tandem_hits_total"+cache+",tier=local}"] == 1 &&
			values["tandem_ready"+cache+"}"] == 1
	}, 10*time.Second, 10*time.Millisecond)

	fleet.RedisDown()
	_ = a.Invalidate(ctx, "k")
	require.Eventually(t, func() bool {
		values := collect(t, c)
		return values["tandem_redis_failing"+cache+"}"] == 1 && values["tandem_pending_keys"+cache+"}"] == 1 &&
			values["tandem_remote_trusted"+cache+"}"] == 0 && values["tandem_local_untrusted_seconds_total"+cache+"}"] > 0
	}, 10*time.Second, 10*time.Millisecond)
	fleet.RedisUp()
}

func ExampleNew() {
	collector := tieredprom.New()
	_ = tiered.Options[string]{Observer: collector} // for tiered.New
	collector.Add(fixed{name: "users", stats: tiered.Stats{LocalHits: 42}})

	registry := prometheus.NewRegistry()
	registry.MustRegister(collector)
	families, err := registry.Gather()
	for _, f := range families {
		if f.GetName() == "tandem_hits_total" {
			fmt.Println(f.Metric[0].Counter.GetValue(), err)
		}
	}
	// Output: 42 <nil>
}
