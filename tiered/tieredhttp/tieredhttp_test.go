package tieredhttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/tieredhttp"
	"github.com/tandemcache/tandem/tiered/tieredtest"
)

func TestMain(m *testing.M) { leak.Main(m) }

type fixed struct {
	name   string
	health tiered.Health
}

func (f fixed) Name() string          { return f.name }
func (f fixed) Health() tiered.Health { return f.health }

func ask(t *testing.T, h http.Handler) (int, tieredhttp.Answer) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var a tieredhttp.Answer
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
	require.Equal(t, a.OK, w.Code == http.StatusOK)
	return w.Code, a
}

var well = tiered.Health{Ready: true, LocalTrusted: true, RemoteTrusted: true}

func with(change func(*tiered.Health)) fixed {
	f := fixed{"users", well}
	change(&f.health)
	return f
}

func TestEachThingThatIsWrong(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change        func(*tiered.Health)
		ready, health int
	}{
		"nothing":           {func(*tiered.Health) {}, 200, 200},
		"closed":            {func(h *tiered.Health) { h.Closed = true }, 503, 503},
		"not connected yet": {func(h *tiered.Health) { *h = tiered.Health{} }, 503, 503},
		"deaf":              {func(h *tiered.Health) { h.LocalTrusted = false }, 200, 503},
		"Redis away":        {func(h *tiered.Health) { h.RemoteTrusted, h.RedisError = false, errors.New("away") }, 200, 503},
		"a beat failed":     {func(h *tiered.Health) { h.RedisError = errors.New("away") }, 200, 503},
		"breaker":           {func(h *tiered.Health) { h.BreakerOpen = true }, 200, 503},
		"pending":           {func(h *tiered.Health) { h.PendingKeys = 1 }, 200, 503},
		"pending all":       {func(h *tiered.Health) { h.PendingAll = true }, 200, 503},
		"busy":              {func(h *tiered.Health) { h.Flights, h.ReadsWaiting = 9, 9 }, 200, 200},
	} {
		code, _ := ask(t, tieredhttp.Ready(0, fixed{"orders", well}, with(tc.change)))
		require.Equal(t, tc.ready, code, "Ready: %s", name)
		code, _ = ask(t, tieredhttp.Health(fixed{"orders", well}, with(tc.change)))
		require.Equal(t, tc.health, code, "Health: %s", name)
	}
}

func TestReadyLosesPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := tieredhttp.Ready(10*time.Second, fixed{name: "users"})
		code, _ := ask(t, h)
		require.Equal(t, 503, code)
		time.Sleep(10 * time.Second)
		code, _ = ask(t, h)
		require.Equal(t, 200, code)
	})
}

// A field that is added to Health and forgotten here fails this.
func TestTheAnswerHasAllOfHealth(t *testing.T) {
	t.Parallel()
	_, base := ask(t, tieredhttp.Ready(0, fixed{name: "users"}))
	for i := range reflect.TypeFor[tiered.Health]().NumField() {
		f := fixed{name: "users"}
		switch field := reflect.ValueOf(&f.health).Elem().Field(i); field.Kind() {
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Interface:
			field.Set(reflect.ValueOf(errors.New("away")))
		default:
			field.SetInt(int64(time.Hour))
		}
		_, a := ask(t, tieredhttp.Ready(0, f))
		require.NotEqual(t, base, a, reflect.TypeFor[tiered.Health]().Field(i).Name)
	}
}

func TestWhatAStateSays(t *testing.T) {
	t.Parallel()
	_, a := ask(t, tieredhttp.Health(with(func(h *tiered.Health) {
		h.ProofAge, h.InvalidationsWaiting, h.RedisError = 1500*time.Millisecond, 3, errors.New("away")
	})))
	require.Equal(t, tieredhttp.State{
		Ready: true, LocalTrusted: true, RemoteTrusted: true, ProofAgeMillis: 1500, InvalidationsWaiting: 3, RedisError: "away",
	}, a.Caches["users"])
}

func TestCachesOfOneName(t *testing.T) {
	t.Parallel()
	bad := with(func(h *tiered.Health) { h.PendingKeys = 1 })
	for _, caches := range [][]tieredhttp.Cache{{bad, fixed{"users", well}}, {fixed{"users", well}, bad}} {
		code, a := ask(t, tieredhttp.Health(caches...))
		require.Equal(t, 503, code)
		require.Equal(t, 1, a.Caches["users"].PendingKeys)
	}
}

func TestOnlyWhoAsks(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	tieredhttp.Health().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
}

// A service that has been ready stays so without Redis, and its Health says what is wrong.
func TestACacheWhoseRedisGoes(t *testing.T) {
	t.Parallel()
	fleet := tieredtest.NewFleet(t, 1, tiered.Options[string]{})
	cache := fleet.Cache(0)
	fleet.Settle()
	ready, health := tieredhttp.Ready(0, cache), tieredhttp.Health(cache)
	eventually := func(h http.Handler, want int) {
		t.Helper()
		require.Eventually(t, func() bool { code, _ := ask(t, h); return code == want }, 10*time.Second, time.Millisecond)
	}
	eventually(health, 200)
	fleet.RedisDown()
	require.ErrorIs(t, cache.Invalidate(context.Background(), "k"), tiered.ErrPending)
	eventually(health, 503)
	code, a := ask(t, health)
	require.Equal(t, 503, code)
	require.Equal(t, 1, a.Caches["tieredtest"].PendingKeys)
	code, _ = ask(t, ready)
	require.Equal(t, 200, code)
	fleet.RedisUp()
	eventually(health, 200)
	require.NoError(t, cache.Close())
	code, _ = ask(t, ready)
	require.Equal(t, 503, code)
}

func ExampleHealth() {
	users := fixed{name: "users", health: tiered.Health{Ready: true, LocalTrusted: true, RemoteTrusted: true, PendingKeys: 3}}
	w := httptest.NewRecorder()
	tieredhttp.Health(users).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz/caches", nil))
	fmt.Println(w.Code)
	// Output: 503
}

func ExampleReady() {
	users := fixed{name: "users", health: tiered.Health{Ready: true, RedisError: errors.New("away")}}
	w := httptest.NewRecorder()
	tieredhttp.Ready(10*time.Second, users).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	fmt.Println(w.Code)
	// Output: 200
}
