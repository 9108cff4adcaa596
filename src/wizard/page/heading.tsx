/** The heading of a view. It takes the focus when the view opens: who does not see the page is told where he is. */
import { useEffect, useRef } from 'preact/hooks';

export function Heading({ text }: { readonly text: string }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), [text]);
  return (
    <h1 ref={heading} tabIndex={-1}>
      {text}
    </h1>
  );
}
