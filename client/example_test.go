package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/coditect-ai/license-ledger/client"
)

// A whole program that works while it holds a seat. Run it with LEDGER_LICENSE_KEY set, next to a "ledger up".
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	ledger, err := client.New(client.Config{
		Server:     "http://127.0.0.1:8080",
		LicenseKey: os.Getenv("LEDGER_LICENSE_KEY"),
		Logger:     slog.Default(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	lease, err := ledger.Acquire(ctx, client.Holder{})
	var refused *client.Error
	switch {
	case errors.Is(err, client.NoSeatAvailable) && errors.As(err, &refused):
		fmt.Printf("All %d seats are in use. Try again in %v.\n", refused.Seats, refused.RetryAfter)
		return
	case err != nil:
		fmt.Println("No seat:", err)
		return
	}
	defer lease.Close(ctx)

	work, cancel := lease.Context(ctx) // ends when the seat is lost
	defer cancel()
	for work.Err() == nil {
		fmt.Println("Working with a seat until", lease.Status().Until.Format(time.TimeOnly))
		select {
		case <-time.After(time.Second):
		case <-work.Done():
		}
	}
	if errors.Is(context.Cause(work), client.LeaseLost) {
		fmt.Println("The seat is gone, saving:", context.Cause(work))
	}
}

// Warn while the ledger cannot be reached; stop when the seat is lost.
func ExampleConfig_onChange() {
	_ = client.Config{
		OnChange: func(lease *client.Lease, s client.Status) {
			switch s.State {
			case client.AtRisk:
				fmt.Printf("The license server does not answer; working on until %v.\n", s.Until.Format(time.TimeOnly))
			case client.Lost:
				fmt.Println("The seat was lost:", s.Err)
			}
		},
	}
}

// Wait until somebody gives a seat back.
func ExampleClient_Wait() {
	ledger, err := client.New(client.Config{Server: "https://ledger.example.com", LicenseKey: os.Getenv("LEDGER_LICENSE_KEY")})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	lease, err := ledger.Wait(ctx, client.Holder{}, func(reason *client.Error) { fmt.Println("waiting:", reason) })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer lease.Close(context.Background())
}
