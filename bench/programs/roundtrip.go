// Ping-pong of two goroutines over two unbuffered channels: seconds a round trip, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"time"
)

func pingpong(there, back chan int, count int) time.Duration {
	start := time.Now()
	for i := 0; i < count; i++ {
		there <- i
		if v := <-back; v != i {
			panic("wrong echo")
		}
	}
	return time.Since(start)
}

func main() {
	procs := flag.Int("procs", 2, "GOMAXPROCS")
	count := flag.Int("count", 100000, "number of round trips")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	there, back := make(chan int), make(chan int)
	go func() {
		for v := range there {
			back <- v
		}
	}()
	pingpong(there, back, *count/10+1)
	elapsed := pingpong(there, back, *count)
	fmt.Printf("{\"value\": %g}\n", elapsed.Seconds()/float64(*count))
}
