package tieredotel_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/tieredotel"
	"github.com/tandemcache/tandem/tiered/tieredtest"
)

func TestMain(m *testing.M) { leak.Main(m) }

type fixed struct {
	name   string
	stats  tiered.Stats
	health tiered.Health
}

func (f fixed) Name() string          { return f.name }
func (f fixed) Stats() tiered.Stats   { return f.stats }
func (f fixed) Health() tiered.Health { return f.health }

// rig is Telemetry with what it has shown.
type rig struct {
	*tieredotel.Telemetry
	spans  *tracetest.SpanRecorder
	tracer trace.Tracer
	reader *sdkmetric.ManualReader
}

func newRig(t *testing.T, opts tieredotel.Options) rig {
	t.Helper()
	r := rig{spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.spans))
	r.tracer = traces.Tracer("test")
	opts.TracerProvider = traces
	opts.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader))
	var err error
	r.Telemetry, err = tieredotel.New(opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// numbers returns what the instruments show: a histogram as how many it has counted.
func (r rig) numbers(t *testing.T) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, r.reader.Collect(context.Background(), &all))
	out := map[string]float64{}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			require.NotEmpty(t, m.Unit, m.Name)
			require.NotEmpty(t, m.Description, m.Name)
			switch d := m.Data.(type) {
			case metricdata.Sum[float64]:
				require.True(t, d.IsMonotonic)
				for _, p := range d.DataPoints {
					out[m.Name+fmt.Sprint(p.Attributes.Encoded(attributes))] = p.Value
				}
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					out[m.Name+p.Attributes.Encoded(attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					out[m.Name+p.Attributes.Encoded(attributes)] = float64(p.Count)
				}
			}
		}
	}
	return out
}

// ended waits for spans of a name.
func (r rig) ended(t *testing.T, name string, n int) []sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	require.Eventually(t, func() bool {
		found = nil
		for _, s := range r.spans.Ended() {
			if s.Name() == name {
				found = append(found, s)
			}
		}
		return len(found) == n
	}, 10*time.Second, time.Millisecond, "%d spans %q", n, name)
	return found
}

// A number that is added to Stats or Health and forgotten here fails this.
func TestEveryNumberIsShown(t *testing.T) {
	t.Parallel()
	shown := func(f fixed) map[string]float64 {
		r := newRig(t, tieredotel.Options{})
		r.Add(fixed{name: "users", stats: tiered.Stats{LocalHits: 99}})
		r.Add(f)
		return r.numbers(t)
	}
	base := shown(fixed{name: "users"})
	check := func(field string, changed fixed) {
		different := 0
		for name, v := range shown(changed) {
			if base[name] != v {
				different++
			}
		}
		require.Equal(t, 1, different, "instruments that show %s", field)
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

func TestALoadIsLinkedToItsWaiters(t *testing.T) {
	t.Parallel()
	r := newRig(t, tieredotel.Options{Keys: true})
	loading, letGo := make(chan struct{}), make(chan struct{})
	var inLoader trace.SpanContext
	fleet := tieredtest.NewFleet(t, 1, tiered.Options[string]{
		Observer: r.Telemetry, MaxStaleness: 3 * time.Second, RedisTimeout: 10 * time.Second,
		Load: func(ctx context.Context, _ string) (string, error) {
			inLoader = trace.SpanContextFromContext(ctx)
			close(loading)
			<-letGo
			return "v", nil
		},
	})
	fleet.Settle()
	c := fleet.Cache(0)
	// Flights are joined once a heartbeat was sent after the session began, and answered; the second one that comes back says so.
	for range 2 {
		since := time.Now()
		require.Eventually(t, func() bool {
			now := time.Now()
			return now.Add(-c.Health().ProofAge).After(since)
		}, 20*time.Second, time.Millisecond)
	}
	get := func(wg *sync.WaitGroup, name string) trace.SpanContext {
		ctx, span := r.tracer.Start(context.Background(), name)
		wg.Go(func() {
			defer span.End()
			_, _ = c.Get(ctx, "k")
		})
		return span.SpanContext()
	}
	var wg sync.WaitGroup
	leader := get(&wg, "leader")
	<-loading
	waiter := get(&wg, "waiter")
	require.Eventually(t, func() bool { return c.Stats().Joined == 1 }, 10*time.Second, time.Millisecond)
	close(letGo)
	wg.Wait()

	load := r.ended(t, "load tieredtest", 1)[0]
	require.Equal(t, leader.TraceID(), load.SpanContext().TraceID())
	require.Equal(t, leader.SpanID(), load.Parent().SpanID())
	require.Equal(t, load.SpanContext(), inLoader)
	require.Len(t, load.Links(), 1)
	require.Equal(t, waiter, load.Links()[0].SpanContext)
	waited := r.ended(t, "waiter", 1)[0]
	require.Len(t, waited.Links(), 1)
	require.Equal(t, load.SpanContext(), waited.Links()[0].SpanContext)
	require.Contains(t, attributesOf(load), "tandem.key=k")

	for _, name := range []string{"HGET", "EVALSHA acquire", "EVALSHA fill"} {
		call := r.ended(t, name, 1)[0]
		require.Equal(t, leader.SpanID(), call.Parent().SpanID())
		require.Equal(t, trace.SpanKindClient, call.SpanKind())
		require.Contains(t, attributesOf(call), "db.system.name=redis")
		require.False(t, call.EndTime().Before(call.StartTime()))
	}
	require.InDelta(t, 1, r.numbers(t)["tandem.load.durationtandem.cache=tieredtest"], 0)
}

func TestALoadThatFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, tieredotel.Options{})
	c := tieredtest.New(t, tiered.Options[string]{
		Observer: r.Telemetry,
		Load: func(_ context.Context, key string) (string, error) {
			if key == "missing" {
				return "", tiered.ErrNotFound
			}
			return "", errors.New("the source is down")
		},
	})
	_, err := c.Get(context.Background(), "k")
	require.Error(t, err)
	load := r.ended(t, "load tieredtest", 1)[0]
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "the source is down"}, load.Status())
	require.NotContains(t, attributesOf(load), "tandem.key=k")
	_, err = c.Get(context.Background(), "missing")
	require.ErrorIs(t, err, tiered.ErrNotFound)
	require.Equal(t, codes.Unset, r.ended(t, "load tieredtest", 2)[1].Status().Code)
}

func TestAnInvalidationCarriesItsTrace(t *testing.T) {
	t.Parallel()
	r, deaf := newRig(t, tieredotel.Options{}), newRig(t, tieredotel.Options{IgnoreRemote: true})
	fleet := tieredtest.NewFleet(t, 2, tiered.Options[string]{Observer: r.Telemetry, RedisTimeout: 10 * time.Second})
	r.Add(fleet.Cache(1))
	ctx, span := r.tracer.Start(context.Background(), "update")
	require.NoError(t, fleet.Cache(0).Invalidate(ctx, "k", "l"))
	span.End()
	require.NoError(t, fleet.Cache(0).Invalidate(context.Background(), "m")) // without a trace
	fleet.Settle()

	for _, heard := range r.ended(t, "invalidate tieredtest", 2) { // on both
		require.Equal(t, span.SpanContext().TraceID(), heard.SpanContext().TraceID())
		require.Equal(t, span.SpanContext().SpanID(), heard.Parent().SpanID())
		require.Equal(t, trace.SpanKindConsumer, heard.SpanKind())
		require.Contains(t, attributesOf(heard), "tandem.invalidation.keys=2")
	}
	require.Eventually(t, func() bool {
		return r.numbers(t)["tandem.invalidation.lagtandem.cache=tieredtest"] == 2
	}, 10*time.Second, time.Millisecond, "of the other instance's, with and without a trace")

	deaf.InvalidationReceived(tiered.Invalidation{Carried: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
	require.Empty(t, deaf.spans.Ended())
}

// With Redis away loads have their spans all the same, and what it costs is to be seen.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	r := newRig(t, tieredotel.Options{})
	fleet := tieredtest.NewFleet(t, 1, tiered.Options[string]{
		Observer: r.Telemetry, Load: func(context.Context, string) (string, error) { return "v", nil },
	})
	fleet.RedisDown()
	ctx, span := r.tracer.Start(context.Background(), "update")
	require.ErrorIs(t, fleet.Cache(0).Invalidate(ctx, "k"), tiered.ErrPending)
	_, err := fleet.Cache(0).Get(ctx, "k")
	require.NoError(t, err)
	span.End()
	r.ended(t, "load tieredtest", 1)
	failed := r.ended(t, "EVALSHA invalidate", 1)[0]
	require.Equal(t, codes.Error, failed.Status().Code)
}

func FuzzCarried(f *testing.F) {
	for _, text := range []string{"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ff-0-0-0", "00-é"} {
		f.Add(text)
	}
	recorder := tracetest.NewSpanRecorder()
	t, err := tieredotel.New(tieredotel.Options{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)),
		MeterProvider:  sdkmetric.NewMeterProvider(),
	})
	require.NoError(f, err)
	f.Fuzz(func(_ *testing.T, carried string) {
		t.InvalidationReceived(tiered.Invalidation{Cache: "c", Carried: carried, Keys: []string{"k"}, Received: time.Now()})
		recorder.Reset()
	})
}
