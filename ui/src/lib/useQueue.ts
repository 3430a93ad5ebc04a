import { useQuery, useQueryClient } from '@tanstack/react-query'
import { useEffect, useRef, useState } from 'react'
import { mayPass } from '../api/client'
import { queueQuery } from '../api/queries'
import type { License } from '../api/types'
import { askAgain } from './askAgain'
import { usePaused } from './liveStatus'
import { useHeld } from './useHeld'
import { pollEvery, retryEvery } from './useTenant'

/**
 * The queue of a license, asked for again when the license came anew with the view of its tenant: whoever takes a seat, gives one
 * back, comes or leaves changes the license or its seats. Between such changes the estimates grow.
 */
export function useQueue(tenant: string, license: License) {
  const queryClient = useQueryClient()
  const paused = usePaused()
  const asked = queueQuery(tenant, license.id)
  const query = useQuery({
    ...asked,
    refetchInterval: ({ state }) => {
      if (paused) return false
      if (state.error) return mayPass(state.error) ? retryEvery : false
      return state.data?.waiting ? pollEvery : false
    },
  })
  const [ask] = useState(() => askAgain(() => queryClient.refetchQueries({ queryKey: asked.queryKey, type: 'active' })))
  const seen = useRef(license)
  useEffect(() => {
    if (seen.current === license) return
    seen.current = license
    void ask()
  }, [license, ask])
  return { ...query, data: useHeld(query.data, paused) ?? query.data }
}
