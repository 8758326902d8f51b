package mqtt

import "testing"

func BenchmarkFramePing(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if n, err := Frame(Ping, 4096); n != 2 || err != nil || !IsPing(Ping) {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkParseConnect(b *testing.B) {
	frame := connect5(0xc2, "\x26\x00\x0drollcall-left\x00\x0810.0.0.1", "\x00\x08client-1\x00\x08im/phone\x00\x05token")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseConnect(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParsePublish(b *testing.B) {
	frame := frame(nil, PUBLISH, []byte("\x00\x0e$rollcall/beat\x00"), []byte(`{"interval":5000}`))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePublish(frame, V5); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendPuback(b *testing.B) {
	buf := make([]byte, 0, 256)
	ack := Puback{PacketID: 1, User: []User{{"rollcall-queue-delay", "120"}, {"rollcall-sessions", "4711"}}}
	b.ReportAllocs()
	for b.Loop() {
		buf = ack.Append(buf[:0], V5, 0)
	}
}
