// The concurrent prime sieve, a goroutine for each prime: seconds for all of them, as a JSON line.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"time"
)

func generate(ch chan<- int) {
	for i := 2; ; i++ {
		ch <- i
	}
}

func filter(source <-chan int, target chan<- int, prime int) {
	for {
		if i := <-source; i%prime != 0 {
			target <- i
		}
	}
}

func main() {
	primes := flag.Int("primes", 500, "number of primes")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	start := time.Now()
	ch := make(chan int)
	go generate(ch)
	prime := 0
	for i := 0; i < *primes; i++ {
		prime = <-ch
		following := make(chan int)
		go filter(ch, following, prime)
		ch = following
	}
	elapsed := time.Since(start)
	fmt.Printf("{\"value\": %g, \"note\": \"the last is %d\"}\n", elapsed.Seconds(), prime)
}
