// Package tieredotel shows caches to OpenTelemetry: metrics and spans.
//
//	telemetry, err := tieredotel.New(tieredotel.Options{})
//	defer telemetry.Close()
//	users, err := tiered.New(rdb, "users", tiered.Options[User]{Load: load, Observer: telemetry})
//	telemetry.Add(users)
//
// # Metrics
//
// Every number of tiered.Stats and tiered.Health is an observable instrument with the attribute tandem.cache. Histograms are
// tandem.load.duration, tandem.invalidation.lag (of other instances' messages, by the clock of Redis), and for calls to Redis
// db.client.operation.duration of the semantic conventions for databases, with the script in db.stored_procedure.name.
//
// # Spans
//
// A load has a span, a child of the one in the context of the Get that started it, and the loader has it in its context. Those
// Gets that waited for the same load are linked to it, and it to them, both ways, because most viewers show a link at its
// start alone: the first 64 of them, as far as their spans are recording.
//
// A call to Redis has a client span below the span in the context that it is made for. It is made when the call is over, so
// a sampler sees all of its attributes and nobody waits for it. Calls without a parent that is sampled have none.
//
// An invalidation carries the W3C traceparent of its caller, if that is sampled, and has a consumer span in the caller's trace
// on each instance that hears it: from when it was sent to when it was heard, as far as that is known. Whoever may publish in
// Redis can so add spans to a trace whose id he knows; [Options].IgnoreRemote leaves these spans out.
//
// Keys are in no span and no metric, unless [Options].Keys is set: they may be personal, and are many.
package tieredotel

import (
	"context"
	"errors"
	"slices"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/tandemcache/tandem/tiered"
)

const scope = "github.com/tandemcache/tandem/tiered/tieredotel"

// Cache is what Telemetry reads: a *tiered.Cache of any type. A closed one may be read.
type Cache interface {
	Name() string
	Stats() tiered.Stats
	Health() tiered.Health
}

// Options configures Telemetry. The zero value of each field is a sound default.
type Options struct {
	// TracerProvider makes the spans. Nil: otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
	// MeterProvider takes the metrics. Nil: otel.GetMeterProvider().
	MeterProvider metric.MeterProvider
	// Keys has spans name the keys that they are about, in tandem.key and, of an invalidation, the first 16 in tandem.keys.
	Keys bool
	// IgnoreRemote has invalidations that are heard make no span.
	IgnoreRemote bool
}

// Telemetry is an Observer for tiered.Options, and shows the numbers of the caches that it is given. Its methods may be called
// concurrently.
type Telemetry struct {
	tiered.NopObserver
	opts         Options
	tracer       trace.Tracer
	loads, calls metric.Float64Histogram
	lags         metric.Float64Histogram
	registration metric.Registration

	mu     sync.Mutex // protects caches
	caches []Cache
}

var _ tiered.Observer = (*Telemetry)(nil)

// New returns Telemetry without caches. It returns the errors of the MeterProvider.
func New(opts Options) (*Telemetry, error) {
	if opts.TracerProvider == nil {
		opts.TracerProvider = otel.GetTracerProvider()
	}
	if opts.MeterProvider == nil {
		opts.MeterProvider = otel.GetMeterProvider()
	}
	t := &Telemetry{opts: opts}
	t.tracer = opts.TracerProvider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
	m := opts.MeterProvider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	var errs [4]error
	histogram := func(name, help string, bounds ...float64) (metric.Float64Histogram, error) {
		return m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(help), metric.WithExplicitBucketBoundaries(bounds...))
	}
	t.loads, errs[0] = histogram("tandem.load.duration", "Time of the loader's calls.",
		.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)
	// The boundaries that the conventions ask for begin at a millisecond, in which most calls are over.
	t.calls, errs[1] = histogram("db.client.operation.duration", "Duration of database client operations.",
		.0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .5, 1)
	t.lags, errs[2] = histogram("tandem.invalidation.lag", "Time from the sending of another instance's invalidation to its being heard, by the clock of Redis.",
		.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5)
	t.registration, errs[3] = register(m, t.shown)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Add has the numbers of caches shown from now on. A cache of a name that is shown already takes the other's place.
func (t *Telemetry) Add(caches ...Cache) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, added := range caches {
		t.removeLocked(added.Name())
		t.caches = append(t.caches, added)
	}
}

// Remove has the numbers of the cache of this name shown no more.
func (t *Telemetry) Remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(name)
}

func (t *Telemetry) removeLocked(name string) {
	t.caches = slices.DeleteFunc(t.caches, func(other Cache) bool { return other.Name() == name })
}

func (t *Telemetry) shown() []Cache {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.caches)
}

// Close shows no numbers any more. Spans go on.
func (t *Telemetry) Close() error {
	if t.registration == nil {
		return nil
	}
	return t.registration.Unregister()
}

// LoadStarted implements tiered.Observer.
func (t *Telemetry) LoadStarted(ctx context.Context, e tiered.LoadStart) context.Context {
	attrs := []attribute.KeyValue{cacheName(e.Cache)}
	if t.opts.Keys && e.Key != "" {
		attrs = append(attrs, attribute.String("tandem.key", e.Key))
	}
	ctx, _ = t.tracer.Start(ctx, "load "+e.Cache, trace.WithAttributes(attrs...)) //nolint:spancheck // LoadEnded ends it
	return ctx
}

// LoadEnded implements tiered.Observer.
func (t *Telemetry) LoadEnded(ctx context.Context, e tiered.LoadEnd) {
	attrs := []attribute.KeyValue{cacheName(e.Cache)}
	span := trace.SpanFromContext(ctx)
	switch {
	case errors.Is(e.Err, tiered.ErrNotFound):
		attrs = append(attrs, attribute.Bool("tandem.not_found", true))
	case e.Err != nil:
		attrs = append(attrs, semconv.ErrorType(e.Err))
		span.SetStatus(codes.Error, e.Err.Error())
	}
	t.loads.Record(ctx, e.Took.Seconds(), metric.WithAttributes(attrs...))
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attrs...)
	span.SetAttributes(attribute.Int("tandem.waiters", e.Waiters))
	link(span, e.Contexts)
	span.End()
}

// link links a load's span to those who wait for it, and theirs to it.
func link(load trace.Span, waiting []context.Context) {
	for _, ctx := range waiting {
		waiter := trace.SpanFromContext(ctx)
		if !waiter.SpanContext().IsValid() {
			continue
		}
		load.AddLink(trace.Link{SpanContext: waiter.SpanContext(), Attributes: []attribute.KeyValue{attribute.String("tandem.link", "waiter")}})
		waiter.AddLink(trace.Link{SpanContext: load.SpanContext(), Attributes: []attribute.KeyValue{attribute.String("tandem.link", "load")}})
	}
}

// RemoteCalled implements tiered.Observer.
func (t *Telemetry) RemoteCalled(ctx context.Context, e tiered.RemoteCall) {
	attrs := []attribute.KeyValue{cacheName(e.Cache), semconv.DBSystemNameRedis}
	var name string
	switch e.Op {
	case "get":
		name = "HGET"
		attrs = append(attrs, semconv.DBOperationName(name))
	case "present":
		name = "PIPELINE HEXISTS"
		attrs = append(attrs, semconv.DBOperationName(name))
	default:
		name = "EVALSHA " + e.Op
		attrs = append(attrs, semconv.DBOperationName("EVALSHA"), semconv.DBStoredProcedureName(e.Op))
	}
	if e.Err != nil {
		attrs = append(attrs, semconv.ErrorType(e.Err))
	}
	t.calls.Record(ctx, e.Took.Seconds(), metric.WithAttributes(attrs...))
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return
	}
	if e.Entries > 1 {
		attrs = append(attrs, semconv.DBOperationBatchSize(e.Entries))
	}
	_, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(e.Ended.Add(-e.Took)), trace.WithAttributes(attrs...))
	if e.Err != nil {
		span.SetStatus(codes.Error, e.Err.Error())
	}
	span.End(trace.WithTimestamp(e.Ended))
}

const traceparent = "traceparent"

// Invalidating implements tiered.Observer.
func (t *Telemetry) Invalidating(ctx context.Context, _ tiered.InvalidationStart) string {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceparent]
}

// InvalidationReceived implements tiered.Observer.
func (t *Telemetry) InvalidationReceived(e tiered.Invalidation) {
	if e.LagKnown && !e.Own {
		t.lags.Record(context.Background(), e.Lag.Seconds(), metric.WithAttributes(cacheName(e.Cache)))
	}
	if e.Carried == "" || t.opts.IgnoreRemote {
		return
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{traceparent: e.Carried})
	if !trace.SpanContextFromContext(ctx).IsSampled() { // also if it is no traceparent
		return
	}
	attrs := []attribute.KeyValue{
		cacheName(e.Cache), semconv.MessagingSystemKey.String("redis"), semconv.MessagingOperationTypeProcess,
		semconv.MessagingOperationName("invalidate"), semconv.MessagingDestinationName(e.Cache),
		attribute.Int("tandem.invalidation.keys", len(e.Keys)), attribute.Int("tandem.invalidation.tags", len(e.Tags)), attribute.Bool("tandem.invalidation.all", e.All),
	}
	if t.opts.Keys {
		attrs = append(attrs, attribute.StringSlice("tandem.keys", e.Keys[:min(len(e.Keys), 16)]))
	}
	_, span := t.tracer.Start(ctx, "invalidate "+e.Cache, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithTimestamp(e.Received.Add(-e.Lag)), trace.WithAttributes(attrs...))
	span.End(trace.WithTimestamp(e.Received))
}

func cacheName(name string) attribute.KeyValue { return attribute.String("tandem.cache", name) }
