package service

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// talk is a stream of questions, each of which is answered with the server's name.
var talk = grpc.StreamDesc{StreamName: "Talk", ServerStreams: true, ClientStreams: true}

const echo = "rollcall.e2e.Echo"

// serveGRPC serves the stream and the health service, which goes the same way.
func serveGRPC(ctx context.Context, l net.Listener, name string, w *worker) error {
	s := grpc.NewServer()
	stream := talk
	stream.Handler = func(_ any, stream grpc.ServerStream) error {
		for {
			if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
				return err
			}
			if err := w.do(stream.Context(), usual); err != nil {
				return err
			}
			if err := stream.SendMsg(wrapperspb.String(name)); err != nil {
				return err
			}
		}
	}
	s.RegisterService(&grpc.ServiceDesc{ServiceName: echo, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{stream}}, nil)
	healthpb.RegisterHealthServer(s, &health{worker: w})
	defer context.AfterFunc(ctx, s.Stop)()
	return s.Serve(l)
}

type health struct {
	healthpb.UnimplementedHealthServer
	worker *worker
}

// Check implements healthpb.HealthServer.
func (h *health) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if err := h.worker.do(ctx, usual); err != nil {
		return nil, err
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

// talker sends messages over a stream of a grpc-go client that connects by itself.
type talker struct{ client *grpc.ClientConn }

func newTalker(lines *lines, address string) (*talker, error) {
	// The address is resolved by the dialer, as it is for the other clients.
	client, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return lines.dial(ctx, "tcp", address) }))
	if err != nil {
		return nil, err
	}
	return &talker{client}, nil
}

func (t *talker) close() { _ = t.client.Close() }

func (t *talker) open(ctx context.Context) (conversation, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := t.client.NewStream(ctx, &talk, "/"+echo+"/"+talk.StreamName)
	if err != nil {
		cancel()
		return nil, err
	}
	return &conversing{stream, cancel}, nil
}

type conversing struct {
	stream grpc.ClientStream
	cancel context.CancelFunc
}

func (c *conversing) ask(context.Context) (string, error) {
	if err := c.stream.SendMsg(&emptypb.Empty{}); err != nil {
		return "", err
	}
	var pod wrapperspb.StringValue
	err := c.stream.RecvMsg(&pod)
	return pod.GetValue(), err
}

func (c *conversing) end() { c.cancel() }
