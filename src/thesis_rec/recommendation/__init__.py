"""What an answer is made of: candidates and their cost, known datasets nearby, and the answer itself."""
