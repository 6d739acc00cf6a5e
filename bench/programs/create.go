// A chain of goroutines on one processor, each of which starts the next and ends: seconds a goroutine, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"time"
)

func chain(n int, done chan bool) {
	if n == 0 {
		done <- true
		return
	}
	go chain(n-1, done)
}

func run(count int) time.Duration {
	done := make(chan bool, 1)
	start := time.Now()
	chain(count, done)
	<-done
	return time.Since(start)
}

func main() {
	count := flag.Int("count", 1000000, "number of goroutines")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	run(*count/10 + 1)
	fmt.Printf("{\"value\": %g}\n", run(*count).Seconds()/float64(*count))
}
