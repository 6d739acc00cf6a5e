// A goroutine with one argument for each task, and a WaitGroup: seconds a task, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

func spawn(count int) time.Duration {
	var wg sync.WaitGroup
	var ran atomic.Int64
	start := time.Now()
	wg.Add(count)
	for i := 0; i < count; i++ {
		go func(wg *sync.WaitGroup) {
			ran.Add(1)
			wg.Done()
		}(&wg)
	}
	wg.Wait()
	elapsed := time.Since(start)
	if ran.Load() != int64(count) {
		panic("a task was lost")
	}
	return elapsed
}

func main() {
	count := flag.Int("count", 100000, "number of tasks")
	flag.Parse()
	runtime.GOMAXPROCS(2)
	spawn(*count/10 + 1)
	elapsed := spawn(*count)
	fmt.Printf("{\"value\": %g}\n", elapsed.Seconds()/float64(*count))
}
