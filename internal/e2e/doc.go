// Package e2e tests the programs from outside: real processes, killed for real.
package e2e
