package pubsub

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxAcks is how many acknowledgements wait to be sent. Further ones are dropped: who asked waits for its bound instead.
	maxAcks = 256
	// maxAckBatch is how many are sent at once.
	maxAckBatch = 16
)

// acks are acknowledgements to be sent.
type acks chan ack

type ack struct {
	channel string // private to who has asked
	message []byte
}

// add never waits.
func (q acks) add(a ack) {
	select {
	case q <- a:
	default:
	}
}

// publishFunc publishes a message within a pipeline.
type publishFunc func(p redis.Pipeliner, ctx context.Context, channel string, message any) *redis.IntCmd

// loop sends acknowledgements until ctx ends.
func (q acks) loop(ctx context.Context, client redis.UniversalClient, publish publishFunc, interval func() time.Duration) {
	for {
		select {
		case first := <-q:
			q.send(ctx, client, publish, allowance(interval()), first)
		case <-ctx.Done():
			return
		}
	}
}

func (q acks) send(ctx context.Context, client redis.UniversalClient, publish publishFunc, wait time.Duration, next ack) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	// One that is lost costs whoever asked its bound.
	_, _ = client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := 1; ; n++ {
			publish(p, ctx, next.channel, next.message)
			if n == maxAckBatch {
				return nil
			}
			select {
			case next = <-q:
			default:
				return nil
			}
		}
	})
}

// acknowledge answers an Ask, between one message and the next: every member has applied what came before it on this
// connection, and what came before the connection none of them serves.
func (b *Bus) acknowledge(ask Message) {
	if ask.Sender == b.id {
		b.questions.acknowledged(ask.Token, b.id)
		return
	}
	b.acks.add(b.ackOf(ask))
}

func (n *names) ackOf(ask Message) ack {
	return ack{channel: n.inboxOf(ask.Sender), message: Message{Op: Ack, Sender: n.id, Token: ask.Token}.Encode()}
}
