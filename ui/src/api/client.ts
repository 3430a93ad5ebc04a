import createClient from 'openapi-fetch'
import { learnTime } from '../lib/clock'
import type { paths } from './schema.gen'
import { session, sessionHeaders } from './session'
import type { Problem } from './types'

export const client = createClient<paths, 'application/json' | 'application/problem+json'>({
  baseUrl: location.origin,
  // Looked up at each call, so that tests can stand in for the network.
  fetch: (request) => globalThis.fetch(request),
})

client.use({
  onRequest({ request }) {
    for (const [name, value] of Object.entries(sessionHeaders())) request.headers.set(name, value)
    return request
  },
  onResponse({ request, response }) {
    learnTime(response)
    if (response.status === 401) session.reject(request.headers.get('Authorization')?.replace('Bearer ', '') ?? '')
  },
})

/** A refusal of the server, or the network's failure in the same form. */
export class ProblemError extends Error {
  readonly problem: Problem

  constructor(problem: Problem) {
    super(problem.title)
    this.problem = problem
  }
}

/** Whether asking again may help: the network or the server failed, or it was too soon, and nobody refused for good. */
export function mayPass(error: Error): boolean {
  return error instanceof ProblemError && (error.problem.status === 0 || error.problem.status === 429 || error.problem.status >= 500)
}

/** Returns the data of an answer, or throws its problem. */
export async function unwrap<T>(call: Promise<{ data?: T; error?: Problem; response: Response }>): Promise<T> {
  let answer
  try {
    answer = await call
  } catch (cause) {
    throw new ProblemError({
      type: 'about:blank', title: 'The ledger cannot be reached', status: 0, code: 'unreachable',
      detail: `Is it running? ${cause instanceof Error ? cause.message : ''}`,
    })
  }
  if (answer.data !== undefined) return answer.data
  const problem = answer.error
  if (problem && typeof problem === 'object' && 'code' in problem) throw new ProblemError(problem)
  throw new ProblemError({
    type: 'about:blank', title: `The server answered ${answer.response.status}`, status: answer.response.status, code: 'unexpected',
  })
}
