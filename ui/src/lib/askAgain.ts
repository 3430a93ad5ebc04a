/** The least time between two questions for the same thing, in milliseconds. */
const askEvery = 1000

/**
 * A function that asks now, or, while an answer is on its way or just came, once more after that: what changes meanwhile is asked
 * for, and what changes all the time is asked for once a second.
 */
export function askAgain(question: () => Promise<unknown>): () => Promise<void> {
  let asking = false
  let asked = false
  return async () => {
    asked = true
    if (asking) return
    asking = true
    while (asked) {
      asked = false
      await question()
      await new Promise((resolve) => setTimeout(resolve, askEvery))
    }
    asking = false
  }
}
