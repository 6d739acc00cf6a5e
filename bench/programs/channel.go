// Integers over a buffered channel from one goroutine to another: seconds a message, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"time"
)

// transfer sends count integers over a new channel and waits until the receiver has them all.
func transfer(capacity, count int) time.Duration {
	ch := make(chan int, capacity)
	done := make(chan int)
	go func() {
		last := -1
		for v := range ch {
			last = v
		}
		done <- last
	}()
	start := time.Now()
	for i := 0; i < count; i++ {
		ch <- i
	}
	close(ch)
	if last := <-done; last != count-1 {
		panic("a message was lost")
	}
	return time.Since(start)
}

func main() {
	capacity := flag.Int("cap", 128, "capacity of the channel")
	count := flag.Int("count", 1000000, "number of messages")
	flag.Parse()
	runtime.GOMAXPROCS(2)
	transfer(*capacity, *count/10+1)
	elapsed := transfer(*capacity, *count)
	fmt.Printf("{\"value\": %g}\n", elapsed.Seconds()/float64(*count))
}
