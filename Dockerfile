# One image with the one binary; its parts are subcommands. Both base images are
# arguments, so that it can be built where these cannot be pulled:
#   make image BASE_BUILD=mirror.example/golang:1.26 BASE_RUN=scratch
ARG BASE_BUILD=golang:1.26
ARG BASE_RUN=gcr.io/distroless/static:nonroot

# Go cross-compiles: the build always runs on the builder's own platform.
FROM --platform=$BUILDPLATFORM ${BASE_BUILD} AS build
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src
# The modules are a layer of their own, which a change of the code leaves alone.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -trimpath -ldflags='-s -w' -o /out/rollcall ./cmd/rollcall

FROM ${BASE_RUN}
COPY --from=build /out/rollcall /rollcall
# The number of distroless's "nonroot", so that it means the same on any base,
# and so that runAsNonRoot can be verified.
USER 65532:65532
ENTRYPOINT ["/rollcall"]
