// Two producers and two consumers on one channel, with plain operations or selects: seconds a message, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

const batch = 1000

func produce(ch chan int, left *atomic.Int64) {
	for left.Add(-1) >= 0 {
		for i := 0; i < batch; i++ {
			ch <- 1
		}
	}
	ch <- 0
}

func consume(ch chan int) {
	for <-ch != 0 {
	}
}

func selectProduce(ch chan int, left *atomic.Int64, never chan bool) {
	clock := time.After(time.Hour)
	for left.Add(-1) >= 0 {
		for i := 0; i < batch; i++ {
			select {
			case ch <- 1:
			case <-clock:
			case <-never:
			}
		}
	}
	ch <- 0
}

func selectConsume(ch chan int, never chan bool) {
	clock := time.After(time.Hour)
	for {
		select {
		case v := <-ch:
			if v == 0 {
				return
			}
		case <-clock:
		case <-never:
		}
	}
}

func run(capacity, batches int, selects bool) time.Duration {
	var left atomic.Int64
	left.Store(int64(batches))
	ch, never, done := make(chan int, capacity), make(chan bool), make(chan bool)
	start := time.Now()
	for side := 0; side < 2; side++ {
		go func() {
			if selects {
				selectConsume(ch, never)
			} else {
				consume(ch)
			}
			done <- true
		}()
		go func() {
			if selects {
				selectProduce(ch, &left, never)
			} else {
				produce(ch, &left)
			}
			done <- true
		}()
	}
	for i := 0; i < 4; i++ {
		<-done
	}
	return time.Since(start)
}

func main() {
	capacity := flag.Int("cap", 0, "capacity of the channel")
	selects := flag.Bool("select", false, "each operation a select with a timer and another channel")
	procs := flag.Int("procs", 1, "GOMAXPROCS")
	count := flag.Int("count", 1000000, "number of messages")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	batches := *count/batch + 1
	run(*capacity, batches/10+1, *selects)
	fmt.Printf("{\"value\": %g}\n", run(*capacity, batches, *selects).Seconds()/float64(batches*batch))
}
