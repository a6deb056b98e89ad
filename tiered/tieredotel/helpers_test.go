package tieredotel_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/tieredotel"
)

var attributes = attribute.DefaultEncoder()

func attributesOf(s sdktrace.ReadOnlySpan) []string {
	var out []string
	for _, a := range s.Attributes() {
		out = append(out, string(a.Key)+"="+a.Value.String())
	}
	return out
}

func ExampleNew() {
	reader := sdkmetric.NewManualReader() // a program has an exporter
	telemetry, err := tieredotel.New(tieredotel.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer telemetry.Close()
	_ = tiered.Options[string]{Observer: telemetry} // for tiered.New
	telemetry.Add(fixed{name: "users", stats: tiered.Stats{Loads: 42}})

	var all metricdata.ResourceMetrics
	_ = reader.Collect(context.Background(), &all)
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Name == "tandem.loads" {
			fmt.Println(m.Data.(metricdata.Sum[float64]).DataPoints[0].Value)
		}
	}
	// Output: 42
}
