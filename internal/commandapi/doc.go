// Package commandapi is the command side over HTTP: it checks keys and input, turns a request into a command for the
// ledger, and the ledger's answer into a reply.
//
// Guarantees: a reply that says something was done is sent only after it is stored; a request that is refused changed
// nothing but, for a refused acquire, added the denial; bad input is refused naming the field before the ledger sees it.
package commandapi
