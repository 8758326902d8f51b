// Package fewnodes runs whole installations on one machine and on two, where too
// few agents can observe: the other servers and the leading controller observe
// too, a hung server is found all the same, and never by one witness alone.
package fewnodes
