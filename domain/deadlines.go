package domain

// absent is the place of an item that is in no heap.
const absent = -1

// timed is what a heap asks about its items: each has a deadline and remembers its place in the one heap it is in.
type timed[T any] interface {
	deadline(T) int64 // Unix milliseconds
	place(T) *int32   // where the heap keeps the item's place; absent when it is in none
}

// deadlines is a heap of items, earliest deadline first. The zero value is empty. All its methods take what knows the
// items, always the same.
type deadlines[T any] struct{ items []T }

func (d *deadlines[T]) len() int { return len(d.items) }

// top returns the earliest item; there must be one.
func (d *deadlines[T]) top() T { return d.items[0] }

// put adds x, or moves it to where its deadline belongs now.
func (d *deadlines[T]) put(of timed[T], x T) {
	if at := of.place(x); *at == absent {
		*at = int32(len(d.items))
		d.items = append(d.items, x)
	}
	if i := int(*of.place(x)); !d.down(of, i) {
		d.up(of, i)
	}
}

// remove takes x out, if it is in.
func (d *deadlines[T]) remove(of timed[T], x T) {
	i, last := int(*of.place(x)), len(d.items)-1
	if i == absent {
		return
	}
	d.swap(of, i, last)
	var zero T
	d.items[last] = zero
	d.items = d.items[:last]
	*of.place(x) = absent
	if i < last && !d.down(of, i) {
		d.up(of, i)
	}
}

func (d *deadlines[T]) swap(of timed[T], i, j int) {
	d.items[i], d.items[j] = d.items[j], d.items[i]
	*of.place(d.items[i]), *of.place(d.items[j]) = int32(i), int32(j)
}

func (d *deadlines[T]) less(of timed[T], i, j int) bool {
	return of.deadline(d.items[i]) < of.deadline(d.items[j])
}

func (d *deadlines[T]) up(of timed[T], i int) {
	for i > 0 && d.less(of, i, (i-1)/2) {
		d.swap(of, i, (i-1)/2)
		i = (i - 1) / 2
	}
}

// down reports whether the item moved.
func (d *deadlines[T]) down(of timed[T], i int) bool {
	start := i
	for {
		child := 2*i + 1
		if child >= len(d.items) {
			break
		}
		if right := child + 1; right < len(d.items) && d.less(of, right, child) {
			child = right
		}
		if !d.less(of, child, i) {
			break
		}
		d.swap(of, i, child)
		i = child
	}
	return i > start
}
