// A value that a select and a send move between two channels, which nobody else uses: seconds a turn, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"time"
)

func turns(count int) {
	a, b := make(chan int, 1), make(chan int, 1)
	a <- 0
	for i := 0; i < count; i++ {
		select {
		case <-a:
			b <- 0
		case <-b:
			a <- 0
		}
	}
}

func run(procs, count int) time.Duration {
	var wg sync.WaitGroup
	start := time.Now()
	for i := 0; i < procs; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			turns(count)
		}()
	}
	wg.Wait()
	return time.Since(start)
}

func main() {
	procs := flag.Int("procs", 1, "GOMAXPROCS, and goroutines with channels of their own")
	count := flag.Int("count", 1000000, "turns of each")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	run(*procs, *count/10+1)
	fmt.Printf("{\"value\": %g}\n", run(*procs, *count).Seconds()/float64(*procs**count))
}
