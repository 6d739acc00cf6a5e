// reflect.Select over many channels, of which one gets a value before or while it blocks: seconds a select, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"math/rand"
	"reflect"
	"runtime"
	"time"
)

func run(cases, capacity, count int, send func([]chan int, int)) time.Duration {
	channels := make([]chan int, cases)
	selects := make([]reflect.SelectCase, cases)
	for i := range channels {
		channels[i] = make(chan int, capacity)
		selects[i] = reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(channels[i])}
	}
	random := rand.New(rand.NewSource(1))
	start := time.Now()
	for i := 0; i < count; i++ {
		k := random.Intn(cases)
		send(channels, k)
		if chosen, _, _ := reflect.Select(selects); chosen != k {
			panic("the wrong case")
		}
	}
	return time.Since(start)
}

func main() {
	cases := flag.Int("cases", 10, "number of cases")
	block := flag.Bool("block", false, "select first, send then")
	count := flag.Int("count", 100000, "number of selects")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	capacity, send := 1, func(channels []chan int, k int) { channels[k] <- k }
	if *block {
		type request struct {
			channels []chan int
			k        int
		}
		requests := make(chan request, 1)
		go func() {
			for r := range requests {
				r.channels[r.k] <- r.k
			}
		}()
		capacity, send = 0, func(channels []chan int, k int) { requests <- request{channels, k} }
	}
	run(*cases, capacity, *count/10+1, send)
	value := run(*cases, capacity, *count, send).Seconds() / float64(*count)
	fmt.Printf("{\"value\": %g, \"note\": \"%.0f ns a case\"}\n", value, value/float64(*cases)*1e9)
}
