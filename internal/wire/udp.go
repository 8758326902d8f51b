package wire

// PropUDP, in CONNECT: "1" asks to beat by datagrams; in CONNACK: the grant, as
// datagram.ParseGrant reads it. It holds a secret, and is given over TLS only.
const PropUDP = "rollcall-udp"
