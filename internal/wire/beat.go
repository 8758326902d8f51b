package wire

import "fmt"

// TopicKeepAlive changes the interval during a session: EMQX's convention. The
// payload is a decimal number of seconds.
const TopicKeepAlive = "$SETOPTS/mqtt/keepalive"

// What a beat may say of its client, in names and in bytes of names and values.
const (
	MaxAttributes     = 16
	MaxAttributeBytes = 1 << 10
)

// CheckAttributes tells what keeps attributes from being taken by a server.
func CheckAttributes(attributes map[string]string) error {
	size := 0
	for name, value := range attributes {
		size += len(name) + len(value)
	}
	if len(attributes) > MaxAttributes || size > MaxAttributeBytes {
		return fmt.Errorf("%d attributes of %d bytes, where %d of %d bytes together are allowed", len(attributes), size, MaxAttributes, MaxAttributeBytes)
	}
	return nil
}
