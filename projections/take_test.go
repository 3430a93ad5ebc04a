package projections

import "testing"

// While a batch is written the next one grows; it is handed over as soon as that is done, with what is there.
func TestABatchGrowsWhileAnotherIsWritten(t *testing.T) {
	t.Parallel()
	queue, idle, taken := make(chan Commit), make(chan struct{}, 1), make(chan []Commit)
	go func() {
		for {
			commits := take(queue, idle, 10)
			if taken <- commits; commits == nil {
				return
			}
		}
	}()
	for range 3 {
		queue <- Commit{events: 1} // is received, so the batch is not closed yet
	}
	idle <- struct{}{}
	if commits := <-taken; len(commits) != 3 {
		t.Errorf("%d commits in a batch that grew by three", len(commits))
	}
	queue <- Commit{events: 10}
	if commits := <-taken; len(commits) != 1 {
		t.Errorf("%d commits in a full batch", len(commits))
	}
	for range 2 {
		queue <- Commit{events: 5}
	}
	if commits := <-taken; len(commits) != 2 {
		t.Errorf("%d commits in a batch that two fill", len(commits))
	}
	queue <- Commit{events: 1}
	close(queue)
	if commits := <-taken; len(commits) != 1 {
		t.Errorf("%d commits in the last batch", len(commits))
	}
	if commits := <-taken; commits != nil {
		t.Errorf("%d commits after the end", len(commits))
	}
}

// Once nothing is being written, what has come already still goes along.
func TestABatchTakesWhatIsThere(t *testing.T) {
	t.Parallel()
	queue, idle := make(chan Commit, 50), make(chan struct{}, 1)
	for range cap(queue) {
		queue <- Commit{events: 1}
	}
	idle <- struct{}{}
	if commits := take(queue, idle, 100); len(commits) != cap(queue) {
		t.Errorf("%d commits in a batch, not the %d that are there", len(commits), cap(queue))
	}
}
