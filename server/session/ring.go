package session

const (
	// pageSize makes a page fill a cache line.
	pageSize = 14
	// pagesAtOnce is how many pages are made room for at once.
	pagesAtOnce = 32
)

// page holds some of the sessions of a slot (Session.self), and the position of
// the next page of that slot; 0: there is none.
type page struct {
	ids     [pageSize]uint32
	n, next uint32
}

// ring is the pages of a shard's slots, by position; 0 is none.
type ring struct {
	all  []*[pagesAtOnce]page
	free uint32 // linked by next
}

func (r *ring) at(i uint32) *page { return &r.all[(i-1)/pagesAtOnce][(i-1)%pagesAtOnce] }

// add adds a session to the list that begins at head, and returns where it
// begins now.
func (r *ring) add(head, id uint32) uint32 {
	if head == 0 || r.at(head).n == pageSize {
		head = r.take(head)
	}
	p := r.at(head)
	p.ids[p.n] = id
	p.n++
	return head
}

// take is an empty page before next.
func (r *ring) take(next uint32) uint32 {
	if r.free == 0 {
		first := uint32(len(r.all)*pagesAtOnce) + 1
		made := new([pagesAtOnce]page)
		for i := range uint32(pagesAtOnce - 1) {
			made[i].next = first + i + 1
		}
		r.all = append(r.all, made)
		r.free = first
	}
	i := r.free
	p := r.at(i)
	r.free, p.next, p.n = p.next, next, 0
	return i
}

// put gives a page back, and returns the next one of its list.
func (r *ring) put(i uint32) (next uint32) {
	p := r.at(i)
	next, p.next, r.free = p.next, r.free, i
	return next
}
