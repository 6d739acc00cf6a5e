// A receive from one channel or a select over two, ready or blocking: seconds a receive or a round trip, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"time"
)

const batch = 1000

// ready times receives of values which are there, a batch at a time.
func ready(both bool, batches int) time.Duration {
	a, b := make(chan int, batch), make(chan int, batch)
	var elapsed time.Duration
	for i := 0; i < batches; i++ {
		for len(a) < batch {
			a <- 0
		}
		for len(b) < batch {
			b <- 0
		}
		start := time.Now()
		for j := 0; j < batch; j++ {
			if both {
				select {
				case <-a:
				case <-b:
				}
			} else {
				<-a
			}
		}
		elapsed += time.Since(start)
	}
	return elapsed
}

// side receives a token count times and sends it back, in turn over both channels if it selects.
func side(both bool, mine, others [2]chan int, count int) {
	for i := 0; i < count; i++ {
		if both {
			select {
			case <-mine[0]:
			case <-mine[1]:
			}
			others[i%2] <- 0
		} else {
			<-mine[0]
			others[0] <- 0
		}
	}
}

func blocking(both bool, count int) time.Duration {
	here := [2]chan int{make(chan int, 1), make(chan int, 1)}
	there := [2]chan int{make(chan int, 1), make(chan int, 1)}
	done := make(chan bool)
	go func() {
		side(both, there, here, count)
		done <- true
	}()
	start := time.Now()
	there[0] <- 0
	side(both, here, there, count)
	<-done
	return time.Since(start)
}

func main() {
	form := flag.String("form", "select", "recv or select")
	block := flag.Bool("block", false, "of channels that are empty")
	procs := flag.Int("procs", 1, "GOMAXPROCS")
	count := flag.Int("count", 1000000, "number of receives or round trips")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	both := *form == "select"
	if *block {
		blocking(both, *count/10+1)
		fmt.Printf("{\"value\": %g}\n", blocking(both, *count).Seconds()/float64(*count))
		return
	}
	batches := *count/batch + 1
	ready(both, batches/10+1)
	fmt.Printf("{\"value\": %g}\n", ready(both, batches).Seconds()/float64(batches*batch))
}
