// A mutex, alone or wanted by two goroutines: seconds a lock and unlock, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// hammer has each of `sides` goroutines take and release one lock count times, and counts inside it.
func hammer(sides, count int) time.Duration {
	var m sync.Mutex
	var wg sync.WaitGroup
	begin := make(chan struct{})
	total := 0
	for i := 0; i < sides; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-begin
			for i := 0; i < count; i++ {
				m.Lock()
				total++
				m.Unlock()
			}
		}()
	}
	start := time.Now()
	close(begin)
	wg.Wait()
	elapsed := time.Since(start)
	if total != sides*count {
		panic("the lock let two in")
	}
	return elapsed
}

func main() {
	sides := flag.Int("sides", 1, "goroutines, each with a processor")
	count := flag.Int("count", 1000000, "locks of each")
	flag.Parse()
	runtime.GOMAXPROCS(*sides)
	hammer(*sides, *count/10+1)
	elapsed := hammer(*sides, *count)
	fmt.Printf("{\"value\": %g}\n", elapsed.Seconds()/float64(*sides**count))
}
