package pubsub

import (
	"context"

	"github.com/redis/go-redis/v9"
)

const (
	// maxAcks is how many acknowledgements wait to be sent. Further ones are dropped: who asked waits for its bound instead.
	maxAcks = 256
	// maxAckBatch is how many are sent at once.
	maxAckBatch = 16
)

// acknowledge answers an Ask, between one message and the next: every member has applied what came before it on this
// connection, and what came before the connection none of them serves.
func (b *Bus) acknowledge(ask Message) {
	if ask.Sender == b.id {
		b.questions.acknowledged(ask.Token, b.id)
		return
	}
	select {
	case b.acks <- ask:
	default:
	}
}

// ackLoop sends acknowledgements until Close.
func (b *Bus) ackLoop() {
	for {
		select {
		case ask := <-b.acks:
			b.sendAcks(ask)
		case <-b.ctx.Done():
			return
		}
	}
}

func (b *Bus) sendAcks(ask Message) {
	ctx, cancel := context.WithTimeout(b.ctx, allowance(b.interval()))
	defer cancel()
	// One that is lost costs whoever asked its bound.
	_, _ = b.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := 1; ; n++ {
			p.Publish(ctx, b.inboxOf(ask.Sender), Message{Op: Ack, Sender: b.id, Token: ask.Token}.Encode())
			if n == maxAckBatch {
				return nil
			}
			select {
			case ask = <-b.acks:
			default:
				return nil
			}
		}
	})
}
