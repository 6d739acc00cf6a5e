// Two goroutines that swap the roles of sender and receiver over one unbuffered channel: seconds a transfer, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

const batch = 1000

func run(batches int) time.Duration {
	var left atomic.Int64
	left.Store(int64(batches))
	ch, done := make(chan int), make(chan bool)
	start := time.Now()
	for side := 0; side < 2; side++ {
		go func() {
			for {
				number := left.Add(-1)
				if number < 0 {
					break
				}
				for i := 0; i < batch; i++ {
					if number%2 == 0 {
						<-ch
						ch <- 0
					} else {
						ch <- 0
						<-ch
					}
				}
			}
			done <- true
		}()
	}
	<-done
	<-done
	return time.Since(start)
}

func main() {
	procs := flag.Int("procs", 1, "GOMAXPROCS")
	count := flag.Int("count", 1000000, "number of transfers")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	batches := *count/batch/2*2 + 2
	run(2)
	fmt.Printf("{\"value\": %g}\n", run(batches).Seconds()/float64(batches*batch))
}
