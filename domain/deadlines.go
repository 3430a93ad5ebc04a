package domain

import "time"

// absent is the place of an item that is in no heap.
const absent = -1

// item has a deadline and remembers its place in one heap.
type item interface {
	comparable
	deadline() time.Time
	position() *int
}

// deadlines is a heap of items, earliest deadline first. The zero value is empty.
type deadlines[T item] struct{ items []T }

func (d *deadlines[T]) len() int { return len(d.items) }

// top returns the earliest item; there must be one.
func (d *deadlines[T]) top() T { return d.items[0] }

// put adds x, or moves it to where its deadline belongs now.
func (d *deadlines[T]) put(x T) {
	if *x.position() == absent {
		*x.position() = len(d.items)
		d.items = append(d.items, x)
	}
	if i := *x.position(); !d.down(i) {
		d.up(i)
	}
}

// remove takes x out, if it is in.
func (d *deadlines[T]) remove(x T) {
	i, last := *x.position(), len(d.items)-1
	if i == absent {
		return
	}
	d.swap(i, last)
	var zero T
	d.items[last] = zero
	d.items = d.items[:last]
	*x.position() = absent
	if i < last && !d.down(i) {
		d.up(i)
	}
}

func (d *deadlines[T]) swap(i, j int) {
	d.items[i], d.items[j] = d.items[j], d.items[i]
	*d.items[i].position(), *d.items[j].position() = i, j
}

func (d *deadlines[T]) less(i, j int) bool {
	return d.items[i].deadline().Before(d.items[j].deadline())
}

func (d *deadlines[T]) up(i int) {
	for i > 0 && d.less(i, (i-1)/2) {
		d.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

// down reports whether the item moved.
func (d *deadlines[T]) down(i int) bool {
	start := i
	for {
		child := 2*i + 1
		if child >= len(d.items) {
			break
		}
		if right := child + 1; right < len(d.items) && d.less(right, child) {
			child = right
		}
		if !d.less(child, i) {
			break
		}
		d.swap(i, child)
		i = child
	}
	return i > start
}
