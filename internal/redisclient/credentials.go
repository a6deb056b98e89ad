package redisclient

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9/auth"
)

// moment is for how long whoever closes a connection waits for the end of its subscription to credentials: it may be a call whose
// time is over, or Close with many connections.
const moment = 10 * time.Millisecond

type (
	providerFunc        = func() (username, password string)
	providerContextFunc = func(ctx context.Context) (username, password string, err error)
)

// user is what a provider of credentials brings.
type user struct{ name, password string }

// naming returns one provider in place of two: go-redis does not ask plain either if there is the other one. It is nil without
// any, since the options' name and password count then.
func (p *patience) naming(provider providerContextFunc, plain providerFunc) providerContextFunc {
	what := "CredentialsProviderContext"
	switch {
	case provider != nil:
	case plain != nil:
		what = "CredentialsProvider"
	default:
		return nil
	}
	return func(ctx context.Context) (string, string, error) {
		u, err := within(ctx, p, what, func(ctx context.Context) (u user, err error) {
			if provider != nil {
				u.name, u.password, err = provider(ctx)
			} else {
				u.name, u.password = plain()
			}
			return u, err
		}, func(user) {})
		return u.name, u.password, err
	}
}

// streaming is that for a StreamingCredentialsProvider, which is given no context: within's own bound is the only one that its
// Subscribe has. A subscription that comes too late is ended.
func (p *patience) streaming(provider auth.StreamingCredentialsProvider) auth.StreamingCredentialsProvider {
	if provider == nil {
		return nil
	}
	return &stream{of: provider, owners: p}
}

type stream struct {
	of     auth.StreamingCredentialsProvider
	owners *patience
}

// subscription is one of a connection's, with the credentials at its begin.
type subscription struct {
	user
	end auth.UnsubscribeFunc
}

// Subscribe hands on the very listener that it is given, since a provider tells listeners apart.
func (s *stream) Subscribe(listener auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	got, err := within(context.Background(), s.owners, "StreamingCredentialsProvider",
		func(context.Context) (subscription, error) { return s.subscribe(listener) },
		func(late subscription) { _ = late.end() })
	if err != nil {
		return nil, nil, err
	}
	return auth.NewBasicCredentials(got.name, got.password), got.end, nil
}

// subscribe reads the credentials as well, which are the owner's code and which go-redis asks for nothing but name and password.
func (s *stream) subscribe(listener auth.CredentialsListener) (subscription, error) {
	credentials, end, err := s.of.Subscribe(listener)
	if err != nil {
		return subscription{}, err
	}
	got, read := subscription{end: s.owners.ending(end)}, false
	defer func() {
		if !read { // it panics
			_ = got.end()
		}
	}()
	got.name, got.password = credentials.BasicAuth()
	read = true
	return got, nil
}

// ending returns what ends a subscription, in any case. Who calls it does not wait for more than a moment.
func (p *patience) ending(end auth.UnsubscribeFunc) auth.UnsubscribeFunc {
	if end == nil {
		return func() error { return nil }
	}
	return func() error {
		ended := make(chan error, 1)
		go func() {
			_, err := await(context.Background(), p, "the credentials' UnsubscribeFunc",
				func(context.Context) (struct{}, error) { return struct{}{}, end() }, func(struct{}) {})
			ended <- err
		}()
		select {
		case err := <-ended:
			return err
		case <-time.After(moment):
			return nil
		}
	}
}
