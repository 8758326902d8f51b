package sim

// judge is another way to tell who is broken, asked about the same world.
type judge interface {
	name() string
	begin()
}

type group struct {
	make func(w *world) []judge
}

var groups []group

func judges(string, kindOf) bool { return true }
