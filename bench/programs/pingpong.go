// Ping-pong over two unbuffered channels, beside a goroutine that never blocks: seconds a round trip, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"time"
)

func run(count int) time.Duration {
	ping, pong, done := make(chan int), make(chan int), make(chan bool)
	go func() {
		for v := range ping {
			pong <- v
		}
		done <- true
	}()
	start := time.Now()
	go func() {
		for i := 0; i < count; i++ {
			ping <- i
			<-pong
		}
		close(ping)
	}()
	<-done
	return time.Since(start)
}

func main() {
	hog := flag.Bool("hog", false, "with a goroutine that polls a channel all the time")
	procs := flag.Int("procs", 1, "GOMAXPROCS")
	count := flag.Int("count", 100000, "number of round trips")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	stop := make(chan bool)
	if *hog {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
	}
	run(*count/10 + 1)
	fmt.Printf("{\"value\": %g}\n", run(*count).Seconds()/float64(*count))
}
